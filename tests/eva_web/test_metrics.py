"""/metrics: the text format, what is counted, and that it needs the token."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

from eva_state.live import write_live
from eva_state.store import StateStore
from eva_web.metrics import BUCKETS, RequestCounts

_LINE = re.compile(r'([a-z_]+)(\{(?:[a-z]+="(?:[^"\\]|\\.)*",?)*\})? (-?[0-9.e+-]+)')


def read(site: Any, **headers: str) -> dict[str, float]:
    """Samples by name and labels, after checking every line against the text format."""
    answer = site.get("/metrics", **headers)
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    samples: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name not in kinds, "a family may occur once"
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            match = _LINE.fullmatch(line)
            assert match, line
            assert re.sub(r"_(bucket|sum|count)$", "", match[1]) in kinds or match[1] in kinds, line
            assert match[1] + (match[2] or "") not in samples, "a sample may occur once"
            samples[match[1] + (match[2] or "")] = float(match[3])
    return samples


def test_requests_state_and_process(site: Any, helpers: Any) -> None:
    site.made("a.mp4")
    site.made("b.mp4")
    site.post("/api/rate", {"video_name": "a.mp4", "rating": {"overall_quality": 7}})
    site.get("/api/stats")
    site.get("/video/a.mp4")
    site.get("/nowhere/" + "x" * 50)
    write_live(site.state / "agent_status.json", {"state": "running"})
    counted = {
        f'eva_http_requests_total{{route="{route}",method="{method}",status="{status}"}}'
        for route, method, status in (
            ("other", "GET", 404),
            ("/video/<rest>", "GET", 200),
            ("/api/rate", "POST", 200),
            ("/api/stats", "GET", 200),
        )
    }
    found = helpers.wait_for(lambda: counted <= (samples := read(site)).keys() and samples)  # counted once sent, which may be just after
    assert found['eva_http_requests_total{route="/api/rate",method="POST",status="200"}'] == 1
    assert found['eva_http_requests_total{route="/video/<rest>",method="GET",status="200"}'] == 1
    assert found['eva_http_request_duration_seconds_count{route="/api/stats"}'] == 1
    assert found['eva_http_request_duration_seconds_bucket{route="/api/stats",le="+Inf"}'] == 1
    assert found["eva_http_sent_bytes_total"] > 1800
    assert (found["eva_history_entries"], found["eva_ratings"], found["eva_queue_length"]) == (2, 1, 1)
    assert (found["eva_agent_up"], found['eva_clips{kind="existing"}']) == (1, 2)
    assert found["process_threads"] >= 3 and found["process_open_fds"] > 3 and found["process_resident_memory_bytes"] > 1e6
    assert not any("xxx" in name for name in found), "a client's own text must not become a label"


def test_nothing_without_the_token(make_site: Callable[..., Any]) -> None:
    closed = make_site(token="tok")
    assert closed.get("/metrics").status == 401
    assert read(closed, Authorization="Bearer tok")["eva_clips_known"] == 0


def test_what_is_no_request_is_counted(site: Any, helpers: Any) -> None:
    for data in (b"BROKEN\r\n\r\n", b"GET /health HTTP/1.1\r\n\r\n", b"M" + b"E" * 30 + b" /health HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    strange = 'eva_http_requests_total{route="/health",method="OTHER",status="405"}'
    helpers.wait_for(lambda: (found := read(site)) and strange in found and any('status="400"' in name for name in found))


def test_journal_lag(site: Any) -> None:
    site.store._stop.set()  # ends the follower, so that what others write stays unread
    for thread in site.store._threads:
        thread.join()
    with StateStore(site.state, role="agent", video_dir=site.videos) as agent:
        agent.failed("p0", {"params": {}, "combo_key": None, "kind": "error", "reason": "r", "cost_minutes": 1.0})
        site.store.poll()
        assert read(site)['eva_journal_lag_bytes{writer="agent"}'] == 0
        agent.failed("p1", {"params": {}, "combo_key": None, "kind": "error", "reason": "r", "cost_minutes": 1.0})
        assert read(site)['eva_journal_lag_bytes{writer="agent"}'] > 50
        site.store.poll()
        assert read(site)['eva_journal_lag_bytes{writer="agent"}'] == 0


def test_the_histogram_is_cumulative() -> None:
    counts = RequestCounts()
    for seconds in (0.0001, 0.001, 0.003, 99.0):
        counts.count("/r", "GET", 200, seconds, 10)
    text = "".join(counts.families())
    values = [int(line.rpartition(" ")[2]) for line in text.splitlines() if "_bucket{" in line]
    assert len(values) == len(BUCKETS) + 1 and values == sorted(values)
    assert values[0] == 2 and values[-1] == 4 and 'seconds_count{route="/r"} 4' in text
