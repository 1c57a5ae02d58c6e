"""``POST /api/showing``: which clip every open review page shows, so that two reviewers are not given the same one.

Only a courtesy, kept in memory: a page that falls silent is forgotten, a restart forgets all, and nobody is kept from rating anything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from eva_web.fields import MAX_ID, Body, json_body
from eva_web.messages import Request, Response, json_response

LINGER_SECONDS = 5.0  # a clip that was left is not given to others before its rating has reached them
SILENT_SECONDS = 20.0  # a page repeats itself every few seconds; a hidden or closed one does not
MOST_PAGES, MOST_LEFT = 500, 2000


@dataclass
class _Page:
    clip: str
    since: float
    heard: float


class Presence:
    """Thread-safe. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._pages: dict[str, _Page] = {}
        self._left: dict[tuple[str, str], float] = {}  # (page, clip it showed before): until when that lingers; the longest ago first

    def show(self, page: str, clip: str | None) -> list[str]:
        """Notes what a page shows (None: nothing) and answers what is to be left to others: the clips they show or have just left.

        Of two that show the same clip only the later one is told of it, so exactly one gives way.
        """
        now = self._clock()
        with self._lock:
            self._pages = {name: one for name, one in self._pages.items() if now - one.heard < SILENT_SECONDS}
            self._left = {left: until for left, until in self._left.items() if now < until}
            mine = self._pages.pop(page, None)
            if mine is not None and mine.clip != clip:
                self._left.pop((page, mine.clip), None)
                self._left[page, mine.clip] = now + LINGER_SECONDS
                if len(self._left) > MOST_LEFT:
                    del self._left[next(iter(self._left))]
            lingering = {clip_left for name, clip_left in self._left if name != page}
            others = list(self._pages.values())
            since = mine.since if mine is not None and mine.clip == clip else now
            if clip is not None and len(self._pages) < MOST_PAGES:
                self._pages[page] = _Page(clip, since, now)
        return sorted(lingering | {one.clip for one in others if one.clip != clip or one.since <= since})


def showing(request: Request) -> Response:
    body = Body(json_body(request))
    page = body.text("page", required=True, longest=MAX_ID) or ""
    clip = body.text("name")
    body.done()
    return json_response({"status": "success", "others": request.app.presence.show(page, clip)})
