"""The review server.

``create_server(settings, store, index)`` builds it; ``routes.py`` is the table of what it answers.

====================  ==========================================================================
module                job
====================  ==========================================================================
``server``            accepts connections, hands complete requests to bounded worker lanes
``reception``         one event loop that holds every connection until a whole request is there
``app``               finds the route, checks access, turns errors into JSON, logs
``routes``            the route table
``security``          token, cookie, login limit, Host and Origin checks, headers
``messages``          Request, Response, HttpError
``api_read``          GET /api/...
``api_write``         POST /api/...
``fields``            typed reading of queries and bodies (422 with ``fields``)
``arms``              how many combos of a search space a set of bans leaves
``media`` ``ranges``  /video with Range and validators
``pages``             the pages and /static
``metrics``           what Prometheus reads: requests, state, process
``openapi``           the description of every route for programs (``openapi_operations``: its rows)
``access_log``        a line a request in the combined format
``port_holder``       who holds a port that cannot be had
``pictures``          thumbs and filmstrips: cache, and a helper process that decodes
====================  ==========================================================================
"""
