"""Thumbs and filmstrips: the pictures, the cache, and clips or decoders that fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eva_web import picture_worker
from eva_web.pictures import Pictures, Unreadable, Worker

av = pytest.importorskip("av")
numpy = pytest.importorskip("numpy")


def write_clip(path: Path, *, frames: int = 24, width: int = 160, height: int = 96, codec: str = "libx264") -> None:
    """Frame n is an even grey of brightness 10 * n, so that a picture tells which frames it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=12)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            pixels = numpy.full((height, width, 3), min(250, 10 * number), numpy.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def pixels_of(jpeg: bytes, folder: Path) -> Any:
    path = folder / "picture.jpg"
    path.write_bytes(jpeg)
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@pytest.fixture
def clip(site: Any) -> str:
    write_clip(site.videos / "a.mp4")
    os.utime(site.videos / "a.mp4", (1_700_000_000, 1_700_000_000))
    return "a.mp4"


def test_thumb(site: Any, clip: str, tmp_path: Path) -> None:
    answer = site.get("/thumb/a.mp4")
    assert answer.status == 200 and answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"].startswith("private")
    pixels = pixels_of(answer.body, tmp_path)
    assert pixels.shape == (96, 160, 3) and abs(pixels.mean() - 80) < 12  # frame 8 of 0 to 23


def kept_picture(site: Any, told: str, *, age: float) -> bytes:
    """A clip whose history names ``told`` as its thumbnail: a file ``age`` seconds newer than the clip."""
    path = site.state / told
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xff\xd8 a picture made while measuring")
    site.made("a.mp4", file=False, pictures={"thumbnail": told})
    os.utime(path, (1_700_000_000 + age, 1_700_000_000 + age))
    return path.read_bytes()


def test_what_the_measuring_pass_left_is_not_made_again(site: Any, clip: str) -> None:
    held = kept_picture(site, "cache/analysis/ab/a.thumb.jpg", age=5)
    answer = site.get("/thumb/a.mp4")
    assert answer.status == 200 and answer.body == held
    assert site.get("/thumb/a.mp4", If_None_Match=answer.headers["etag"]).status == 304


@pytest.mark.parametrize(
    ("told", "age"), [("cache/analysis/ab/a.thumb.jpg", -5.0), ("manual/a.thumb.jpg", 5.0), ("cache/../../secret.jpg", 5.0)]
)
def test_an_older_picture_or_one_outside_the_cache_is_not_handed_out(site: Any, clip: str, told: str, age: float) -> None:
    held = kept_picture(site, told, age=age)
    answer = site.get("/thumb/a.mp4")
    assert answer.status == 200 and answer.body != held


@pytest.mark.parametrize("told", [None, 7, "a text", {"thumbnail": 3}, {"thumbnail": "cache/gone.jpg"}, {"thumbnail": "cache/\0"}])
def test_what_was_not_kept_is_made(site: Any, clip: str, told: Any) -> None:
    site.made("a.mp4", file=False, pictures=told)
    assert site.get("/thumb/a.mp4").status == 200


def test_filmstrip_shows_first_to_last(site: Any, clip: str, tmp_path: Path) -> None:
    pixels = pixels_of(site.get("/filmstrip/a.mp4").body, tmp_path)
    assert pixels.shape == (96, 1600, 3)
    means = [pixels[:, start : start + 160].mean() for start in range(0, 1600, 160)]
    assert means == sorted(means) and means[0] < 12 and means[-1] > 215


def test_a_picture_is_made_once(site: Any, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site.get("/thumb/a.mp4")
    monkeypatch.setattr(site.server.app.pictures, "_make", lambda *_: pytest.fail("made again"))
    assert site.get("/thumb/a.mp4").body == first.body
    same = site.get("/thumb/a.mp4", If_None_Match=first.headers["etag"])
    assert (same.status, same.body) == (304, b"")
    assert site.ask("HEAD", "/thumb/a.mp4").headers["content-length"] == str(len(first.body))


def test_a_changed_clip_gets_a_new_picture(site: Any, clip: str) -> None:
    first = site.get("/thumb/a.mp4")
    write_clip(site.videos / "a.mp4", frames=3)
    second = site.get("/thumb/a.mp4")
    assert second.headers["etag"] != first.headers["etag"] and second.body != first.body


@pytest.mark.parametrize("data", [b"", b"no clip at all " * 100, b"\0\0\0\x18ftypmp42"])
def test_an_unreadable_clip_fails_clearly_and_is_not_tried_again(site: Any, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    site.clip("bad.mp4", data)
    first = site.get("/thumb/bad.mp4")
    assert first.status == 422 and "bad.mp4" in first.json["message"] and str(site.videos) not in first.json["message"]
    monkeypatch.setattr(site.server.app.pictures, "_make", lambda *_: pytest.fail("tried again"))
    assert site.get("/thumb/bad.mp4").json["message"] == first.json["message"]


def test_a_cut_clip_shows_what_can_be_decoded_or_fails_clearly(site: Any, clip: str) -> None:
    data = (site.videos / "a.mp4").read_bytes()
    for cut in (len(data) // 3, len(data) - 20):
        site.clip("cut.mp4", data[:cut])
        assert site.get("/filmstrip/cut.mp4").status in (200, 422)
    assert site.get("/thumb/a.mp4").status == 200


def test_no_clip_no_picture(site: Any) -> None:
    assert site.get("/thumb/nothing.mp4").status == 404
    assert site.get("/filmstrip/..%2fx.mp4").status == 400


def test_odd_names(site: Any, helpers: Any) -> None:
    for name in ("q\"u'o te.mp4", "ю✓.mp4", "new\nline.mp4", "-dash.mp4"):
        write_clip(site.videos / name, frames=2)
        assert site.get(helpers.video_url(name, "thumb")).status == 200, name


def test_the_helper_ends_with_the_server(make_site: Callable[..., Any]) -> None:
    site = make_site()
    write_clip(site.videos / "a.mp4")
    site.get("/thumb/a.mp4")
    process = site.server.app.pictures._worker._process
    assert process is not None and process.poll() is None
    site.close()
    site.close = lambda: None
    assert process.poll() is not None


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


ECHO = "import sys\nfor line in sys.stdin: print('{}', flush=True)"


def test_a_helper_that_ended_is_started_again(tmp_path: Path) -> None:
    worker = Worker(script("import sys\nsys.stdin.readline(); print('{}', flush=True)"))  # ends after each job
    for _ in range(3):
        worker.make("thumb", tmp_path, tmp_path)
    worker.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os, sys\nsys.stdin.readline(); os.abort()", "crashed"),
        ("import sys, time\nsys.stdin.readline(); time.sleep(60)", "took over"),
        ('import sys\nfor line in sys.stdin: print(\'{"error": "no"}\', flush=True)', "no"),
    ],
)
def test_a_helper_that_fails(tmp_path: Path, text: str, message: str) -> None:
    worker = Worker(script(text), answer_seconds=2.0)
    with pytest.raises(Unreadable, match=message):
        worker.make("thumb", tmp_path, tmp_path)
    worker.close()


def test_a_cache_that_cannot_be_written(site: Any, clip: str) -> None:
    (site.state / "cache").write_text("in the way", encoding="utf-8")
    answer = site.get("/thumb/a.mp4")
    assert answer.status == 507 and "cache" in answer.json["message"]


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, Worker(script(ECHO)))
    for number in range(10):
        path = tmp_path / "thumb" / "aa" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (number, number))
    assert pictures.prune(1000) == 0
    assert pictures.prune(900) == 3
    assert sorted(path.name for path in tmp_path.rglob("*.jpg")) == [f"{number}.jpg" for number in range(3, 10)]


@pytest.mark.parametrize("frames", [1, 2, 500])
def test_short_and_long_clips(tmp_path: Path, frames: int) -> None:
    write_clip(tmp_path / "a.mp4", frames=frames, width=32, height=32)
    assert picture_worker.make("filmstrip", str(tmp_path / "a.mp4"), tmp_path / "a.jpg") == (960, 96)
    assert picture_worker.make("thumb", str(tmp_path / "a.mp4"), tmp_path / "b.jpg") == (32, 32)


def test_large_pictures_are_scaled(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", frames=2, width=1280, height=722)
    assert picture_worker.make("thumb", str(tmp_path / "a.mp4"), tmp_path / "b.jpg") == (320, 180)


def test_real_clips(real_clips: Path, tmp_path: Path) -> None:
    for path in sorted(real_clips.glob("*.mp4")):
        width, height = picture_worker.make("filmstrip", str(path), tmp_path / "strip.jpg")
        assert height == 96 and width >= 10 * 40
        assert pixels_of((tmp_path / "strip.jpg").read_bytes(), tmp_path).std() > 5, path.name
