"""The thumbnail and the filmstrip that the measuring pass leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from eva_p1.clip_pass import Spread
from eva_p1.clip_pictures import CELLS
from eva_p1.decode import ClipInfo, quantiser_step_of, read_frames
from eva_p1.video_analyzer import VideoAnalyzer, main
from tests import media


def counted(frames: int) -> list[media.Frame]:
    """Gray frames, each brighter than the one before: a cell's brightness tells which frame it shows."""
    return [np.full((36, 64, 3), 20 + round(200 * index / (frames - 1)), np.uint8) for index in range(frames)]


@pytest.mark.parametrize("frames", [5, CELLS, 200])
def test_filmstrip_cells_show_the_frames_they_name(tmp_path, frames):
    clip = media.encode(tmp_path / "clip.mp4", counted(frames))
    pictures = VideoAnalyzer().analyze(clip, pictures=tmp_path / "pictures")["pictures"]
    assert len(pictures["frames"]) == min(frames, CELLS) and pictures["frames"][0] == 0
    assert pictures["frames"] == sorted(set(pictures["frames"])) and pictures["frames"][-1] == frames - 1
    sheet = cv2.imread(pictures["filmstrip"])
    wide, tall, columns = pictures["cell_width"], pictures["cell_height"], pictures["columns"]
    assert sheet.shape[1] == columns * wide and sheet.shape[0] % tall == 0
    for place in (0, len(pictures["frames"]) // 2, len(pictures["frames"]) - 1):
        row, column = divmod(place, columns)
        cell = sheet[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]
        assert cell.mean() == pytest.approx(20 + 200 * pictures["frames"][place] / (frames - 1), abs=4)
        assert pictures["seconds"][place] == pytest.approx(pictures["frames"][place] / 24, abs=0.01)
    thumbnail = cv2.imread(pictures["thumbnail"])
    assert thumbnail.mean() == pytest.approx(20 + 200 * 0.35, abs=25)


def test_pictures_change_no_score_and_leave_nothing_else_behind(tmp_path):
    clip = media.encode(tmp_path / "clip.mp4", media.panned("china", 10))
    plain = VideoAnalyzer().analyze(clip)
    found = VideoAnalyzer().analyze(clip, pictures=tmp_path / "deep" / "pictures")
    pictures = found.pop("pictures")
    assert found == plain
    assert sorted(map(str, (tmp_path / "deep" / "pictures").iterdir())) == sorted(
        pictures[name] for name in ("thumbnail", "filmstrip", "scrub_strip")
    )


def test_a_clip_without_a_promised_length_gets_a_full_strip(tmp_path):
    clip = media.encode(tmp_path / "clip.mkv", counted(230))
    numbers = VideoAnalyzer().analyze(clip, pictures=tmp_path)["pictures"]["frames"]
    assert len(numbers) == CELLS and numbers[-1] > 210


def test_clips_of_one_name_keep_apart(tmp_path):
    made = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        clip = media.encode(tmp_path / folder / "clip.mp4", counted(4))
        made.append(VideoAnalyzer().analyze(clip, pictures=tmp_path)["pictures"]["thumbnail"])
    assert made[0] != made[1]


def test_a_rotated_clip_stands_upright(tmp_path):
    clip = media.encode(tmp_path / "clip.mp4", media.panned("china", 4))
    data = clip.read_bytes()
    identity = b"".join(value.to_bytes(4, "big") for value in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
    turned = b"".join(value.to_bytes(4, "big") for value in (0, 0x10000, 0, 0xFFFF0000, 0, 0, 0, 0, 0x40000000))
    place = data.index(identity, data.index(b"tkhd"))  # the display matrix, ISO/IEC 14496-12, 8.3.2: a quarter turn clockwise
    clip.write_bytes(data[:place] + turned + data[place + len(turned) :])
    found = VideoAnalyzer().analyze(clip, pictures=tmp_path)
    upright = cv2.imread(found["pictures"]["thumbnail"])
    assert upright.shape[0] > upright.shape[1] and found["pictures"]["cell_height"] > found["pictures"]["cell_width"]
    # Clockwise, as players show it: what was at the left comes to the top.
    source = cv2.cvtColor(media.panned("china", 2)[1], cv2.COLOR_RGB2BGR)
    expected = cv2.resize(cv2.rotate(source, cv2.ROTATE_90_CLOCKWISE), upright.shape[1::-1])
    wrong = cv2.resize(cv2.rotate(source, cv2.ROTATE_90_COUNTERCLOCKWISE), upright.shape[1::-1])
    assert cv2.norm(upright, expected) < 0.5 * cv2.norm(upright, wrong)


def test_a_folder_that_cannot_be_written_costs_the_pictures_and_no_score(tmp_path, capsys):
    clip = media.encode(tmp_path / "clip.mp4", counted(3))
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    found = VideoAnalyzer().analyze(clip, pictures=tmp_path / "taken")
    assert "pictures cannot be written to" in found["absent"]["pictures"] and "taken" in found["absent"]["pictures"]
    assert found["metrics"]["overall"] > 0 and "pictures" not in found
    assert main([str(clip), "--pictures", str(tmp_path / "taken")]) == 1 and "cannot be written" in capsys.readouterr().out


def test_series_are_kept_beside_the_pictures(tmp_path):
    clip = media.encode(tmp_path / "clip.mp4", counted(100))
    found = VideoAnalyzer().analyze(clip, series=True, pictures=tmp_path / "out")
    held = json.loads(Path(found["pictures"]["series"]).read_text(encoding="utf-8"))
    assert held.pop("filmstrip_frames") == found["pictures"]["frames"] and held == found["series"]
    assert {path.name.split(".", 1)[1] for path in (tmp_path / "out").iterdir()} == {"thumb.jpg", "strip.jpg", "scrub.jpg", "series.json"}


def test_command_line_pictures(tmp_path, capsys):
    clip = media.encode(tmp_path / "clip.mp4", counted(3))
    assert main([str(clip), "--pictures", str(tmp_path / "out")]) == 0
    told = json.loads(capsys.readouterr().out)["pictures"]
    assert set(told) == {"thumbnail", "filmstrip", "scrub_strip", "columns", "cell_width", "cell_height", "frames", "seconds"}


@pytest.mark.parametrize("promised", [0, 7, 100, 5000])
@pytest.mark.parametrize("frames", [1, 3, 100, 777])
def test_spread_holds_enough_and_never_too_many(promised, frames):
    spread: Spread[int] = Spread(8, promised)
    for index in range(frames):
        if spread.wants(index):
            spread.keep(index, index)
        assert 1 <= len(spread.held) < 16
    if promised <= frames:
        assert len(spread.held) >= min(8, frames) and max(spread.held) >= 0.75 * (frames - 1)


@pytest.mark.parametrize(
    ("how", "low", "high"),
    [
        ({"options": {"qp": "34"}}, 28, 36),  # 2 ** ((34 - 4) / 6) = 32
        ({"codec": "mpeg4", "options": {"qmin": "10", "qmax": "10"}}, 19, 21),  # twice the scale
    ],
)
def test_quantiser_step_is_the_coders(tmp_path, how, low, high):
    clip = media.encode(tmp_path / "clip.mp4", media.panned("china", 6), **how)
    steps = [quantiser_step_of(frame) for frame in read_frames(clip, ClipInfo(), 30)]
    assert all(step is not None for step in steps) and low <= np.mean(steps) <= high


def test_a_coder_that_does_not_tell_has_no_step(tmp_path):
    clip = media.encode(tmp_path / "clip.mkv", media.panned("china", 2), codec="ffv1")
    assert [quantiser_step_of(frame) for frame in read_frames(clip, ClipInfo(), 30)] == [None, None]


@pytest.mark.parametrize("frames", [3, 100])
def test_the_scrub_strip_is_ten_cells_from_first_to_last(tmp_path, frames):
    clip = media.encode(tmp_path / "clip.mp4", counted(frames))
    told = VideoAnalyzer().analyze(clip, pictures=tmp_path / "out")["pictures"]
    strip, sheet = cv2.imread(told["scrub_strip"]), cv2.imread(told["filmstrip"])
    tall, wide = told["cell_height"], told["cell_width"]
    assert strip.shape[:2] == (tall, 10 * wide)
    last = len(told["frames"]) - 1
    row, column = divmod(last, told["columns"])
    assert np.abs(strip[:, :wide].astype(int) - sheet[:tall, :wide]).mean() < 4
    assert np.abs(strip[:, -wide:].astype(int) - sheet[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]).mean() < 4
