"""Series a frame, workflows, filters by metric, day and tag, and CSV."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

GRAPH = {"1": {"class_type": "KSampler", "inputs": {"seed": 7}}}


def clip(path: Path, metadata: dict[str, str] | None = None, frames: int = 12) -> None:
    """Frames 0..5 differ, 6 is a white flash, 7 and on stand still."""
    av = pytest.importorskip("av", reason="PyAV renders the clip")
    numpy = pytest.importorskip("numpy")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags+faststart"}) as container:
        for name, text in (metadata or {}).items():
            container.metadata[name] = text
        stream: Any = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(frames):
            picture = numpy.full((64, 96, 3), 40, dtype=numpy.uint8)
            picture[10:40, 4 + 6 * min(number, 5) : 24 + 6 * min(number, 5)] = 200
            if number == 6:
                picture[:] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_the_series_of_a_clip_shows_its_flash_and_its_freeze(site):
    site.made("a.mp4", file=False)
    clip(site.videos / "a.mp4")
    site.index.refresh()
    answer = site.get("/api/series?name=a.mp4")
    assert answer.status == 200, answer.body
    found = answer.json
    assert found["fps"] == 16 and len(found["seconds"]) == 12 and found["seconds"][4] == pytest.approx(0.25)
    assert max(range(12), key=found["brightness"].__getitem__) == 6
    assert found["change"][6] > 0.5 and found["change"][10] < 0.01 and found["change"][0] == 0
    again = site.get("/api/series?name=a.mp4", If_None_Match=answer.headers["etag"])
    assert again.status == 304
    assert site.get("/api/series?name=none.mp4").status == 404
    site.clip("broken.mp4")
    assert site.get("/api/series?name=broken.mp4").status == 422


def test_the_workflow_comes_from_the_file_else_from_the_history_else_the_answer_says_why(site):
    site.made("a.mp4", file=False)
    clip(site.videos / "a.mp4", {"prompt": json.dumps(GRAPH), "workflow": json.dumps({"nodes": []})})
    clip(site.videos / "b.mp4")
    site.made("b.mp4", file=False)
    site.made("c.mp4", file=False, workflow={"nodes": [1]})
    site.index.refresh()
    found = site.get("/api/workflow?name=a.mp4").json
    assert found == {"name": "a.mp4", "source": "clip", "workflow": {"nodes": []}, "prompt": GRAPH}
    part = site.get("/api/workflow?name=a.mp4&part=prompt")
    assert part.json == GRAPH and "a.prompt.json" in part.headers["content-disposition"]
    assert site.get("/api/workflow?name=c.mp4").json["source"] == "history"
    missing = site.get("/api/workflow?name=b.mp4")
    assert missing.status == 404 and "carries none" in missing.json["message"]
    assert site.get("/api/workflow?name=c.mp4&part=prompt").status == 404
    assert site.get("/api/workflow?name=a.mp4&part=soup").status == 422


def names(site: Any, query: str) -> list[str]:
    answer = site.get(f"/api/search?sort=name&{query}")
    assert answer.status == 200, answer.body
    return [item["name"] for item in answer.json["items"]]


def test_clips_are_found_by_metric_day_and_tag(site):
    noon = time.mktime(time.strptime("2026-03-05 12:00", "%Y-%m-%d %H:%M"))
    for number in range(4):
        site.made(f"c{number}.mp4", metrics={"blur": number / 4}, timestamp=noon + 86400 * number)
    assert names(site, "metric=blur&min_metric=0.25&max_metric=0.5") == ["c1.mp4", "c2.mp4"]
    assert names(site, "metric=flicker") == []
    assert names(site, "made_from=2026-03-06&made_to=2026-03-07") == ["c1.mp4", "c2.mp4"]
    assert names(site, f"made_to={noon}") == ["c0.mp4"]
    site.post("/api/rate", {"video_name": "c3.mp4", "rating": {"overall_quality": 5, "tags": ["keep", "hero"]}})
    assert names(site, "tag=keep") == ["c3.mp4"]
    assert site.get("/api/options").json["tags"] == ["hero", "keep"]
    assert site.get("/api/search?made_from=2026-13-41").status == 422
    assert site.get("/api/search?made_from=yesterday").status == 422


def test_a_search_is_exported_as_csv_that_no_spreadsheet_runs(site):
    site.made("a.mp4", prompt='=HYPERLINK("x"), "quoted"', score=0.7)
    site.made("b.mp4", score=0.2)
    site.post("/api/rate", {"video_name": "a.mp4", "rating": {"overall_quality": 8, "defects": ["blur"], "tags": ["keep"]}})
    answer = site.get("/api/export?min_score=0.5")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig"))))
    assert [row["name"] for row in rows] == ["a.mp4"]
    assert rows[0]["prompt"].startswith("'=HYPERLINK") and rows[0]["manual_overall"] == "8.0"
    assert (rows[0]["defects"], rows[0]["tags"], rows[0]["sampler"]) == ("blur", "keep", "euler")
    assert site.get("/api/export?limit=3").status == 200
    assert site.get("/api/export?min_score=x").status == 422


def test_insights_and_the_chart_library_are_served(site):
    site.made("a.mp4")
    deadline = time.monotonic() + 20
    while not (answer := site.get("/api/insights").json)["ready"]:
        assert time.monotonic() < deadline
    assert answer["clips"] == 1 and answer["progress"]["pull"] == [1]
    pytest.importorskip("plotly")
    script = site.get(answer["plotly"])
    assert script.status == 200 and "immutable" in script.headers["cache-control"] and b"plotly.js v" in script.body[:200]
    assert site.get(answer["plotly"], If_None_Match=script.headers["etag"]).status == 304
    packed = site.get(answer["plotly"], Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip" and len(packed.body) < len(script.body) / 2
    assert site.get("/static/vendor/other.js").status == 404
