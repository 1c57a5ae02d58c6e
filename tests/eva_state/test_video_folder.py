"""Which files are clips, when they count as finished, and that nothing outside is opened."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eva_state import video_folder
from eva_state.video_folder import ClipFile, NotAClip, VideoFolder, check_name, is_clip_name

NOW = 1_700_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    return folder


@pytest.fixture
def folder(root: Path, clock: Clock) -> VideoFolder:
    return VideoFolder(root, clock)


def put(path: Path, data: bytes = b"data", age: float = 3600.0) -> None:
    """A file last written ``age`` seconds before the clock's start; its folders too are old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (NOW - age, NOW - age))


def names(found: tuple[dict[str, ClipFile], set[str]]) -> tuple[set[str], set[str]]:
    return set(found[0]), found[1]


def test_finds_clips_in_folders_below(folder: VideoFolder, root: Path) -> None:
    for name in ("a.mp4", "sub/b.webm", "sub/deep/c.MKV", "d.gif", "picture.png", ".hidden.mp4", ".git/e.mp4", "f.tmp.mp4", "g.mp4.part"):
        put(root / name)
    assert names(folder.scan()) == ({"a.mp4", "sub/b.webm", "sub/deep/c.MKV", "d.gif"}, set())
    assert names(folder.scan()) == (set(), set())


def test_new_and_removed_files_and_folders(folder: VideoFolder, root: Path) -> None:
    put(root / "a.mp4")
    folder.scan()
    put(root / "sub/b.mp4")
    assert names(folder.scan()) == ({"sub/b.mp4"}, set())
    (root / "a.mp4").unlink()
    (root / "sub/b.mp4").unlink()
    (root / "sub").rmdir()
    assert names(folder.scan()) == (set(), {"a.mp4", "sub/b.mp4"})


def test_a_folder_that_comes_and_goes(tmp_path: Path, clock: Clock) -> None:
    folder = VideoFolder(tmp_path / "later", clock)
    assert not folder.exists and names(folder.scan()) == (set(), set())
    put(tmp_path / "later/a.mp4")
    assert folder.exists and names(folder.scan()) == ({"a.mp4"}, set())
    (tmp_path / "later/a.mp4").unlink()
    (tmp_path / "later").rmdir()
    assert names(folder.scan()) == (set(), {"a.mp4"})


def test_a_folder_that_cannot_be_read_for_a_moment_keeps_its_clips(
    folder: VideoFolder, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(root / "a.mp4")
    folder.scan()

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    put(root / "b.mp4")
    for way in ("scandir", "listdir"):
        monkeypatch.setattr(video_folder.os, way, broken)
    assert names(folder.scan()) == (set(), set())
    assert names(folder.scan()) == (set(), set()) and caplog.text.count("Input/output error") == 1
    monkeypatch.undo()
    assert names(folder.scan()) == ({"b.mp4"}, set())


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("few", [0, 2, 200])
def test_looking_at_what_is_new_finds_what_listing_anew_finds(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, seed: int, few: int
) -> None:
    """Files, folders, links, hidden and foreign files come, go and change kind between two scans."""
    monkeypatch.setattr(video_folder, "FEW_NEW", few)
    rng = random.Random(seed)
    folder, known = VideoFolder(root, clock), {}
    for _ in range(12):
        for _ in range(rng.randrange(5)):
            path = root / rng.choice(["", "sub", "other/deep"]) / rng.choice(["a.mp4", "b.mp4", "c.txt", ".d.mp4", "e.part.mp4", "f.webm"])
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.parent.is_dir() and rng.random() < 0.1 and path.parent != root:
                shutil.rmtree(path.parent)
            elif path.name == "b.mp4" and rng.random() < 0.5 and (root / "a.mp4").exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(root / "a.mp4")
            else:
                put(path)
        changed, gone = folder.scan()
        known = {name: file for name, file in {**known, **changed}.items() if name not in gone}
        assert set(known) == set(VideoFolder(root, clock).scan()[0])


def test_a_large_folder_is_listed_for_a_share_of_the_time_only(folder: VideoFolder, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_folder, "BIG_FOLDER", 1)
    monkeypatch.setattr(video_folder, "SHARE_OF_TIME", 1e-9)
    put(root / "a.mp4")
    put(root / "b.mp4")
    assert names(folder.scan())[0] == {"a.mp4", "b.mp4"}
    put(root / "c.mp4")
    assert names(folder.scan())[0] == set()
    folder._directories[""].rests_until = 0.0
    assert names(folder.scan())[0] == {"c.mp4"}


def test_a_file_counts_once_it_is_finished(folder: VideoFolder, root: Path, clock: Clock) -> None:
    put(root / "a.mp4", b"some", age=0)
    assert names(folder.scan()) == (set(), set())
    clock.now += 0.5
    put(root / "a.mp4", b"some more", age=-0.5)
    assert names(folder.scan()) == (set(), set())
    clock.now += 0.9
    assert names(folder.scan()) == (set(), set())
    clock.now += 0.2
    found, _ = folder.scan()
    assert found["a.mp4"].size == 9


def test_a_file_from_a_clock_ahead_of_ours_counts_too(folder: VideoFolder, root: Path, clock: Clock) -> None:
    put(root / "a.mp4", age=-9999)
    folder.scan()
    clock.now += 1.5
    assert names(folder.scan()) == ({"a.mp4"}, set())


def test_an_empty_file_is_not_a_clip_until_it_is_filled(folder: VideoFolder, root: Path, clock: Clock) -> None:
    put(root / "a.mp4", b"")
    for _ in range(3):
        clock.now += 5
        assert names(folder.scan()) == (set(), set())
    put(root / "a.mp4", b"data", age=-15)
    folder.scan()
    clock.now += 1
    assert names(folder.scan()) == ({"a.mp4"}, set())


def test_a_file_rewritten_in_place_is_found_in_time(folder: VideoFolder, root: Path, clock: Clock) -> None:
    put(root / "a.mp4")
    os.utime(root, (NOW - 50, NOW - 50))
    folder.scan()
    put(root / "a.mp4", b"other data", age=1800)
    clock.now += video_folder.FULL_SCAN_SECONDS
    found, _ = folder.scan()
    assert found["a.mp4"].size == 10


def test_an_unchanged_folder_is_not_listed_again(folder: VideoFolder, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        put(root / f"sub{number}" / "a.mp4")
        os.utime(root / f"sub{number}", (NOW - 50, NOW - 50))
    os.utime(root, (NOW - 50, NOW - 50))
    folder.scan()
    listed = []
    scandir, listdir = os.scandir, os.listdir
    monkeypatch.setattr(video_folder.os, "scandir", lambda path: listed.append(Path(path).name) or scandir(path))
    monkeypatch.setattr(video_folder.os, "listdir", lambda path: listed.append(Path(path).name) or listdir(path))
    folder.scan()
    assert listed == []
    put(root / "sub1" / "b.mp4")
    folder.scan()
    assert listed == ["sub1"]


def test_look(folder: VideoFolder, root: Path) -> None:
    put(root / "new.mp4", age=0)
    put(root / "empty.mp4", b"")
    put(root.parent / "outside.mp4")
    assert folder.look("new.mp4") == ClipFile(4, int(NOW * 1e9))
    for name in ("nothing.mp4", "empty.mp4", "../outside.mp4", "x\0.mp4", "", "new.txt"):
        assert folder.look(name) is None


@pytest.mark.parametrize("name", ["", "/a.mp4", "../a.mp4", "a/../b.mp4", "./a.mp4", "a//b.mp4", "a/", "a\0.mp4", "\udcff.mp4", "a" * 1025])
def test_names_that_cannot_be_clips(name: str) -> None:
    with pytest.raises(NotAClip):
        check_name(name)


@pytest.mark.parametrize("name", ["a.mp4", "a b.mp4", "a'\"b.mp4", "ю✓.mp4", "a\nb.mp4", "..a.mp4", "a..mp4", "sub/a.mp4", "..."])
def test_names_that_may_be_clips(name: str) -> None:
    assert check_name(name) == name


@given(st.text(max_size=30))
def test_a_checked_name_stays_below_the_folder(name: str) -> None:
    try:
        check_name(name)
    except NotAClip:
        return
    assert os.path.normpath(os.path.join("/videos", name)) == "/videos/" + name  # noqa: PTH118  what the system would make of it


@pytest.mark.parametrize(
    ("name", "expected"), [("a.mp4", True), ("a.MP4", True), (".a.mp4", False), ("x/.y/a.mp4", False), ("a.txt", False)]
)
def test_is_clip_name(name: str, expected: bool) -> None:
    assert is_clip_name(name) is expected


@pytest.fixture
def opened(folder: VideoFolder) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        descriptor, status, real = folder.open(name)
        try:
            assert real.is_absolute() and status.st_size == os.fstat(descriptor).st_size
            return os.read(descriptor, 1000)
        finally:
            os.close(descriptor)

    return read


def test_open(opened: Callable[[str], bytes], root: Path) -> None:
    put(root / "sub/a.mp4", b"content")
    (root / "link.mp4").symlink_to(root / "sub/a.mp4")
    assert opened("sub/a.mp4") == opened("link.mp4") == b"content"


def test_open_refuses_what_is_not_a_clip_inside(opened: Callable[[str], bytes], root: Path) -> None:
    put(root.parent / "outside.mp4", b"secret")
    put(root / "notes.txt")
    put(root / ".hidden.mp4")
    (root / "folder.mp4").mkdir()
    (root / "link.mp4").symlink_to(root.parent / "outside.mp4")
    (root / "loop.mp4").symlink_to(root / "loop.mp4")
    (root / "up").symlink_to(root.parent, target_is_directory=True)
    os.mkfifo(root / "pipe.mp4")
    for name in (
        "link.mp4",
        "loop.mp4",
        "up/outside.mp4",
        "folder.mp4",
        "pipe.mp4",
        "notes.txt",
        ".hidden.mp4",
        "nothing.mp4",
        "a" * 300 + ".mp4",
    ):
        with pytest.raises(FileNotFoundError):
            opened(name)
    for name in ("../outside.mp4", "", "/etc/passwd"):
        with pytest.raises(NotAClip):
            opened(name)


def test_links_are_listed_only_when_they_stay_inside(folder: VideoFolder, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(root.parent / "outside.mp4")
    put(root / "a.mp4")
    (root / "in.mp4").symlink_to(root / "a.mp4")
    (root / "out.mp4").symlink_to(root.parent / "outside.mp4")
    (root / "up").symlink_to(root.parent, target_is_directory=True)
    (root / "dead.mp4").symlink_to(root / "nothing.mp4")
    found, _ = folder.scan()
    assert set(found) == {"a.mp4", "in.mp4"} and "out.mp4" in caplog.text


def test_a_name_that_is_no_unicode_is_left_out_and_told(folder: VideoFolder, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    try:
        (root / os.fsdecode(b"bad\xff.mp4")).write_bytes(b"data")
    except OSError:
        pytest.skip("this file system takes only Unicode names")
    assert names(folder.scan()) == (set(), set()) and "rename it" in caplog.text
