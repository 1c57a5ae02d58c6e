"""``/video/<name>``: bytes, ranges, validators, and names that try to get out."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DATA = bytes(range(256)) * 40


@pytest.fixture
def clip(site: Any) -> str:
    return site.clip("clip.mp4", DATA)


def test_whole_file(site: Any, clip: str) -> None:
    answer = site.get("/video/clip.mp4")
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["cache-control"].startswith("private")
    assert answer.headers["etag"].startswith('"')
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_head_has_the_same_headers_and_no_body(site: Any, clip: str) -> None:
    full, head = site.get("/video/clip.mp4"), site.ask("HEAD", "/video/clip.mp4", headers={"Range": "bytes=1-2"})
    assert (head.status, head.body) == (200, b"")
    for name in ("content-length", "etag", "last-modified", "content-type", "accept-ranges"):
        assert head.headers[name] == full.headers[name]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("0-0", 0, 1),
        ("100-199", 100, 200),
        ("10000-", 10000, len(DATA)),
        ("-100", -100, len(DATA)),
        ("5-9999999", 5, None),
    ],
)
def test_ranges(site: Any, clip: str, text: str, start: int, end: int | None) -> None:
    answer = site.get("/video/clip.mp4", Range=f"bytes={text}")
    expected = DATA[start:end]
    assert (answer.status, answer.body) == (206, expected)
    first = start % len(DATA)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(DATA)}"


def test_unsatisfiable_range(site: Any, clip: str) -> None:
    answer = site.get("/video/clip.mp4", Range=f"bytes={len(DATA)}-")
    assert answer.status == 416 and answer.headers["content-range"] == f"bytes */{len(DATA)}"
    assert answer.json["status"] == "error"


def test_several_ranges_get_the_whole(site: Any, clip: str) -> None:
    answer = site.get("/video/clip.mp4", Range="bytes=0-1,5-6")
    assert (answer.status, answer.body) == (200, DATA)


def test_if_range(site: Any, clip: str) -> None:
    etag = site.get("/video/clip.mp4").headers["etag"]
    assert site.get("/video/clip.mp4", Range="bytes=0-3", If_Range=etag).status == 206
    changed = site.get("/video/clip.mp4", Range="bytes=0-3", If_Range='"older"')
    assert (changed.status, changed.body) == (200, DATA)


def test_conditional_get_and_a_changed_file(site: Any, clip: str) -> None:
    etag = site.get("/video/clip.mp4").headers["etag"]
    same = site.get("/video/clip.mp4", If_None_Match=etag)
    assert (same.status, same.body) == (304, b"") and same.headers["etag"] == etag
    site.clip("clip.mp4", DATA + b"more")
    after = site.get("/video/clip.mp4", If_None_Match=etag)
    assert after.status == 200 and after.headers["etag"] != etag
    refused = site.get("/video/clip.mp4", If_Match=etag)
    assert refused.status == 412 and refused.headers["cache-control"] == "no-store", "a refusal is not kept in the clip's place"


def test_download_names_the_file(site: Any) -> None:
    site.clip('a/б "x"\n.mp4', DATA)
    answer = site.get("/video/a/%D0%B1%20%22x%22%0A.mp4?download=1")
    assert answer.status == 200
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%D0%B1%20%22x%22%0A.mp4"


@pytest.mark.parametrize(
    "name",
    [
        "with space.mp4",
        "quo\"te's.mp4",
        "юнікод ✓.mp4",
        "new\nline.mp4",
        "100%25.mp4",
        "a&b=c?d#e.mp4",
        "sub/deep/x.webm",
    ],
)
def test_names_of_every_kind(site: Any, helpers: Any, name: str) -> None:
    site.clip(name, DATA)
    answer = site.get(helpers.video_url(name))
    assert (answer.status, answer.body) == (200, DATA)
    listed = site.get("/api/videos").json
    assert [clip["name"] for clip in listed] == [name]


@pytest.fixture
def outside(site: Any) -> str:
    """Files next to the video folder that nobody may ever see."""
    secret = "secret-of-the-house"
    for name in ("secret.mp4", "state/secret.mp4", ".hidden.mp4"):
        (site.videos.parent / name).write_text(secret, encoding="utf-8")
    (site.videos / ".hidden.mp4").write_text(secret, encoding="utf-8")
    (site.videos / "notes.txt").write_text(secret, encoding="utf-8")
    (site.videos / "folder.mp4").mkdir()
    (site.videos / "link.mp4").symlink_to(site.videos.parent / "secret.mp4")
    (site.videos / "linked").symlink_to(site.videos.parent, target_is_directory=True)
    os.mkfifo(site.videos / "pipe.mp4")
    return secret


@pytest.mark.parametrize(
    "path",
    [
        *["/video/../secret.mp4", "/video/%2e%2e/secret.mp4", "/video/..%2fsecret.mp4", "/video/sub/../../secret.mp4"],
        *["/video//secret.mp4", "/video/%2Fetc%2Fpasswd", "/video/./secret.mp4", "/video/", "/video/%00", "/video/clip.mp4%00.mp4"],
        *["/video/link.mp4", "/video/linked/secret.mp4", "/video/.hidden.mp4", "/video/notes.txt", "/video/folder.mp4", "/video/pipe.mp4"],
        *["/video/%ff%fe.mp4", "/video/" + "a" * 300 + ".mp4", "/video/" + "a" * 1100 + ".mp4", "/video/clip.mp4/", "/video/nothing.mp4"],
        *[
            "/thumb/../secret.mp4",
            "/thumb/link.mp4",
            "/filmstrip/%2e%2e/secret.mp4",
            "/static/../eva_env_base.py",
            "/static/%2e%2e/README.md",
        ],
        *["/static/..%2fREADME.md", "/static//etc/passwd", "/static/%00", "/static/.git/config"],
    ],
)
def test_nothing_outside_the_folder(site: Any, outside: str, path: str) -> None:
    site.clip("clip.mp4", DATA)
    answer = site.get(path)
    assert answer.status in (400, 404), answer.body
    assert answer.json["status"] == "error" and outside.encode() not in answer.body


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(["..", ".", "", "%2e%2e", "%2f", "linked", "secret.mp4", "state", "%5c", "link.mp4", "%00", "clip.mp4"]), max_size=6
    )
)
def test_no_path_leads_out(site: Any, parts: list[str]) -> None:
    secret = site.videos.parent / "secret.mp4"
    if not secret.exists():
        secret.write_text("secret-of-the-house", encoding="utf-8")
        (site.videos / "linked").symlink_to(site.videos.parent, target_is_directory=True)
        site.clip("clip.mp4", DATA)
    answer = site.get("/video/" + "/".join(parts))
    assert answer.status in (200, 400, 404) and b"secret-of-the-house" not in answer.body
    assert answer.status != 200 or answer.body == DATA


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_no_range_header_breaks_it(site: Any, text: str) -> None:
    if not (site.videos / "clip.mp4").exists():
        site.clip("clip.mp4", DATA)
    answer = site.get("/video/clip.mp4", Range="bytes=" + text)
    assert answer.status in (200, 206, 416)
    assert answer.status != 200 or answer.body == DATA


def test_an_empty_file_and_one_without_permission(site: Any) -> None:
    site.clip("empty.mp4", b"")
    assert site.get("/video/empty.mp4").body == b""
    assert site.get("/video/empty.mp4", Range="bytes=0-").status == 416
    if os.geteuid() != 0:
        (site.videos / "closed.mp4").write_bytes(DATA)
        (site.videos / "closed.mp4").chmod(0)
        assert site.get("/video/closed.mp4").status == 403
