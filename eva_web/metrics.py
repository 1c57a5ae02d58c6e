"""``GET /metrics``: what a Prometheus server reads, in its text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/ (names and units after
https://prometheus.io/docs/practices/naming/: seconds, bytes, ``_total`` for what only grows).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from eva_env_base import __version__
from eva_state.lag import journal_lag
from eva_web.api_read import agent_status
from eva_web.messages import Request, Response

if TYPE_CHECKING:
    from eva_web.app import App

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})  # any other counts as OTHER: a client must not be able to make names

Sample = tuple[str, Mapping[str, object], float]  # suffix of the name, labels, value


class RequestCounts:
    """Requests by route, method and status, and how long answers took by route. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str, int], int] = {}
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self._bytes = 0

    def count(self, route: str, method: str, status: int, seconds: float, sent: int) -> None:
        """One answer. ``route`` is a path of the route table, never a client's own text; ``sent`` counts bytes of the body."""
        key = (route, method if method in METHODS else "OTHER", status)
        bucket = bisect_left(BUCKETS, seconds)
        with self._lock:
            self._requests[key] = self._requests.get(key, 0) + 1
            self._buckets.setdefault(route, [0] * (len(BUCKETS) + 1))[bucket] += 1
            self._seconds[route] = self._seconds.get(route, 0.0) + seconds
            self._bytes += sent

    def families(self) -> Iterable[str]:
        with self._lock:
            requests = sorted(self._requests.items())
            buckets = {route: list(counts) for route, counts in sorted(self._buckets.items())}
            seconds, sent = dict(self._seconds), self._bytes
        samples: list[Sample] = [("", {"route": r, "method": m, "status": s}, n) for (r, m, s), n in requests]
        yield _family("eva_http_requests_total", "counter", "Requests answered.", samples)
        samples = []
        for route, counts in buckets.items():
            total = 0
            for limit, count in zip((*map(str, BUCKETS), "+Inf"), counts):
                total += count
                samples.append(("_bucket", {"route": route, "le": limit}, total))
            samples += [("_sum", {"route": route}, seconds[route]), ("_count", {"route": route}, total)]
        text = "Seconds from a whole request having arrived to its answer being ready, waiting for a worker included."
        yield _family("eva_http_request_duration_seconds", "histogram", text, samples)
        yield _family("eva_http_sent_bytes_total", "counter", "Bytes of bodies sent.", [("", {}, sent)])


def _family(name: str, kind: str, help: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
    for suffix, labels, value in samples:
        inside = ",".join(f'{key}="{_escape(str(text))}"' for key, text in labels.items())
        number = str(int(value)) if float(value).is_integer() else repr(float(value))
        lines.append(f"{name}{suffix}{{{inside}}} {number}" if inside else f"{name}{suffix} {number}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _gauge(name: str, help: str, value: float | None, kind: str = "gauge") -> str:
    """One family of one sample; nothing for what is not known."""
    return "" if value is None else _family(name, kind, help, [("", {}, value)])


def metrics(request: Request) -> Response:
    app = request.app
    text = "".join([*app.counts.families(), *_state(request), *_connections(app), *_process(app)])
    return Response(200, text.encode(), CONTENT_TYPE, {"Cache-Control": "no-store"}, may_compress=True)


def _state(request: Request) -> Iterable[str]:
    app = request.app
    counts, stats, agent = app.index.counts(), app.store.stats(), agent_status(request)
    kinds = ("existing", "rated", "unrated", "banned", "reference")
    yield _family("eva_clips", "gauge", "Clips by what is known of them.", [("", {"kind": kind}, counts[kind]) for kind in kinds])
    yield _gauge("eva_clips_known", "Clips with a file, a history entry or a rating.", counts["total"])
    yield _gauge("eva_history_entries", "Clips that the history holds.", stats["total_generated"])
    yield _gauge("eva_ratings", "Ratings in force.", stats["total_rated"])
    yield _gauge("eva_rating_average", "Mean overall mark, 1 to 10.", stats["avg_rating"])
    yield _gauge("eva_best_score", "Best reward so far, 0 to 1.", stats["best_score"])
    yield _gauge("eva_queue_length", "Clips that wait for a rating.", counts["unrated"])
    yield _gauge("eva_bans", "Bans in force.", stats["banned"])
    yield _gauge("eva_comparisons", "Comparisons in force.", stats["comparisons"])
    yield _gauge("eva_generations_failed_total", "Generations that came to nothing.", stats["failed"], "counter")
    yield _gauge("eva_generations_in_flight", "Prompts that neither finished nor failed.", stats["in_flight"])
    yield _gauge("eva_agent_up", "1 while the agent says that it works.", int(agent["alive"]))
    yield _gauge("eva_agent_status_age_seconds", "Seconds since the agent said something.", agent["age_seconds"])
    lag = [("", {"writer": writer}, size) for writer, size in sorted(journal_lag(app.store).items())]
    yield _family("eva_journal_lag_bytes", "gauge", "Bytes of a writer's journal that this process has not read yet.", lag)
    yield _gauge("eva_state_version", "Events that this process has seen.", stats["version"])
    yield _gauge("eva_state_problems", "Damaged places found in the state folder.", len(app.store.problems))


def _connections(app: App) -> Iterable[str]:
    waiting, busy = app.connections()
    yield _gauge("eva_http_connections_waiting", "Connections without a whole request.", waiting)
    yield _gauge("eva_http_requests_in_progress", "Requests being answered.", busy)


def _process(app: App) -> Iterable[str]:
    version = {"version": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    yield _family("eva_build_info", "gauge", "What runs.", [("", version, 1)])
    yield _gauge("process_start_time_seconds", "When this process began to serve, unix time.", app.started)
    yield _gauge("process_cpu_seconds_total", "CPU time used.", time.process_time(), "counter")
    yield _gauge("process_threads", "Threads of Python.", threading.active_count())
    yield _gauge("process_resident_memory_bytes", "Memory held.", _resident())
    yield _gauge("process_open_fds", "Open file descriptors.", _open_descriptors())
    yield _gauge("process_max_fds", "Limit of open file descriptors.", _descriptor_limit())


def _resident() -> int | None:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None  # not Linux


def _open_descriptors() -> int | None:
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # less the one that lists them
    except OSError:
        return None


def _descriptor_limit() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
