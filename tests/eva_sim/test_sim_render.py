"""Rendered files: what a decoder and a browser find in them, and that every defect can be measured in the pixels."""

from __future__ import annotations

import struct
import threading

import av
import cv2
import numpy as np
import pytest

from eva_sim.render import ClipSpec, PreviewMaker, RenderCancelled, frames_of, render_clip
from eva_sim.scene import THEMES, Scene
from eva_sim.surface import DEFECT_NAMES, Defects

LEVELS = (0.0, 0.3, 0.6, 1.0)


def spec(**changes):
    values = {"prompt": "a red boat on a calm sea", "seed": 5, "width": 192, "height": 128, "frames": 13, "fps": 16.0}
    return ClipSpec(**{**values, **changes})


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return stream, frames, dict(container.metadata)


def boxes(path):
    """Names of the top-level boxes of an mp4, in order."""
    data, names, at = path.read_bytes(), [], 0
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        names.append(name.decode())
        at += size if size >= 8 else len(data)
    return names


def grey(frames):
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float64) for frame in frames]


MEASURES = {
    # measurement, and whether it rises (+1) or falls (-1) with the defect
    "blur": (lambda f: np.mean([cv2.Laplacian(g, cv2.CV_64F).var() for g in grey(f)]), -1),
    "saturation": (lambda f: np.mean([cv2.cvtColor(x, cv2.COLOR_RGB2HSV)[..., 1].mean() for x in f]), +1),
    "washed": (lambda f: np.mean([g.std() for g in grey(f)]), -1),
    "noise": (lambda f: np.mean([np.abs(g - cv2.medianBlur(g.astype(np.uint8), 3)).mean() for g in grey(f)]), +1),
    "flicker": (lambda f: np.abs(np.diff([g.mean() for g in grey(f)])).mean(), +1),
    "blockiness": (lambda f: np.mean([block_contrast(g) for g in grey(f)]), +1),
    "frozen": (lambda f: np.mean([np.abs(a - b).mean() for a, b in zip(grey(f), grey(f)[1:])]), -1),
    "broken": (lambda f: np.mean([np.abs(cv2.Laplacian(g, cv2.CV_64F)).mean() for g in grey(f)]), +1),
}


def block_contrast(picture):
    """Steps across 8-pixel block borders over steps elsewhere: 1 without blocks (the idea of Wang, Bovik, Evans 2000)."""
    steps = np.abs(np.diff(picture, axis=1)).mean(axis=0)
    at_border = np.arange(len(steps)) % 8 == 7
    return steps[at_border].mean() / steps[~at_border].mean()


@pytest.mark.parametrize(
    ("width", "height", "frames", "fps"),
    [(320, 192, 9, 16.0), (192, 320, 5, 8.0), (64, 64, 1, 24.0), (208, 112, 17, 23.976), (96, 96, 6, 12.5)],
)
def test_the_file_is_what_was_asked(tmp_path, width, height, frames, fps):
    path = render_clip(spec(width=width, height=height, frames=frames, fps=fps), tmp_path / "a.mp4", {"prompt": {"1": "x"}})
    stream, decoded, metadata = decode(path)
    assert len(decoded) == frames and decoded[0].shape == (height, width, 3)
    assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
    assert abs(float(stream.average_rate) - fps) < 0.01
    names = boxes(path)
    assert names.index("moov") < names.index("mdat")  # a browser can start before it has all
    assert "simulator" in metadata["comment"] and metadata["prompt"] == '{"1": "x"}'


def test_equal_specs_give_equal_pixels_and_other_ones_do_not():
    one, two = list(frames_of(spec())), list(frames_of(spec()))
    assert all(np.array_equal(a, b) for a, b in zip(one, two))
    for change in ({"seed": 6}, {"prompt": "a green butterfly in a meadow"}):
        assert np.abs(one[0].astype(int) - next(frames_of(spec(**change)))).mean() > 5


def test_an_undamaged_clip_moves_and_has_texture():
    frames = list(frames_of(spec()))
    moved = [np.abs(a.astype(int) - b).mean() for a, b in zip(frames, frames[1:])]
    assert min(moved) > 0.5  # every frame shows something new
    assert MEASURES["blur"][0](frames) > 100
    assert MEASURES["flicker"][0](frames) < 1.0
    assert MEASURES["blockiness"][0](frames) < 1.15


@pytest.mark.parametrize("defect", DEFECT_NAMES)
@pytest.mark.parametrize("seed", [5, 11])
def test_each_defect_moves_its_measurement_step_by_step(tmp_path, defect, seed):
    """Measured after coding: the encoder must not hide what was put in."""
    measure, direction = MEASURES[defect]
    values = []
    for level in LEVELS:
        path = render_clip(spec(seed=seed, defects=Defects(**{defect: level})), tmp_path / f"{level}.mp4")
        values.append(float(measure(decode(path)[1])))
    steps = np.diff(values) * direction
    assert (steps > 0).all(), (defect, values)
    assert abs(values[-1] - values[0]) > 0.25 * abs(values[0]), (defect, values)


def test_a_frozen_clip_stands_still():
    still = list(frames_of(spec(defects=Defects(frozen=1.0))))
    assert all(np.array_equal(still[0], other) for other in still)


def test_the_corner_mark_is_there_and_does_not_disturb():
    marked, plain = list(frames_of(spec(frames=3))), list(frames_of(spec(frames=3, mark=False)))
    changed = np.abs(marked[0].astype(int) - plain[0]).max(axis=2) > 4
    assert 0 < changed.mean() < 0.02 and not changed[:100, :150].any()
    for defect in ("flicker", "frozen", "blockiness", "saturation"):
        with_mark, without = MEASURES[defect][0](marked), MEASURES[defect][0](plain)
        assert abs(with_mark - without) <= 0.05 * abs(without) + 0.02


def test_a_picture_too_small_for_the_mark_has_none():
    assert np.array_equal(next(frames_of(spec(width=32, height=32))), next(frames_of(spec(width=32, height=32, mark=False))))


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_every_place_can_be_asked_for(theme):
    scene = Scene(f"something in the {theme.words[0]}", 1, 96, 64)
    assert scene.theme is theme and scene.frame(0.5).shape == (64, 96, 3)


def test_words_choose_colour_and_pace():
    first = Scene("a yellow boat sails fast", 3, 240, 160)
    slow = Scene("a yellow boat sails slowly", 3, 240, 160)
    assert first.theme.name == "coast" and first._speed > slow._speed
    assert Scene("", 3, 64, 64).frame(0).shape == (64, 64, 3)
    assert Scene("\u0447\u0435\u0440\u0432\u043e\u043d\u0438\u0439 \u0447\u043e\u0432\u0435\u043d \U0001f6a4", 3, 64, 64).frame(
        1
    ).shape == (64, 64, 3)


def test_a_cancelled_render_leaves_no_file(tmp_path):
    stop = threading.Event()
    seen = []

    def cancelled():
        seen.append(1)
        return len(seen) > 3 or stop.is_set()

    with pytest.raises(RenderCancelled):
        render_clip(spec(frames=100), tmp_path / "a.mp4", cancelled=cancelled)
    assert list(tmp_path.iterdir()) == [] and len(seen) == 4


def test_frames_are_made_one_by_one():
    """A clip of an hour starts at once: nothing is drawn before it is asked for."""
    frames = frames_of(spec(frames=60 * 60 * 16))
    assert next(frames).shape == (128, 192, 3)


def test_previews_clear_up():
    maker = PreviewMaker(spec(width=640, height=400))
    noisy, clear = (cv2.imdecode(np.frombuffer(maker.jpeg(p), np.uint8), cv2.IMREAD_COLOR) for p in (0.1, 1.0))
    assert noisy.shape == clear.shape == (160, 256, 3)
    target = cv2.cvtColor(Scene("a red boat on a calm sea", 5, 256, 160, spec().seconds).frame(0.5), cv2.COLOR_RGB2BGR)
    assert np.abs(noisy.astype(int) - target).mean() > 4 * np.abs(clear.astype(int) - target).mean()
