"""Clips that are broken, odd, or no clips at all: measured, or refused with a reason."""

from __future__ import annotations

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest

from eva_env_base import ClipError
from eva_p1.analysis_config import AnalysisConfig
from eva_p1.video_analyzer import VideoAnalyzer
from tests import media


@pytest.fixture(scope="module")
def analyzer():
    return VideoAnalyzer()


def refused(analyzer, path, words):
    with pytest.raises(ClipError, match=words) as caught:
        analyzer.analyze(path)
    assert str(path) in str(caught.value), "the message names the clip"


def test_not_clips(analyzer, tmp_path):
    refused(analyzer, tmp_path, "not a file")
    (tmp_path / "empty.mp4").touch()
    refused(analyzer, tmp_path / "empty.mp4", "empty")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 50, encoding="utf-8")
    refused(analyzer, tmp_path / "text.mp4", "not a video")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(1).bytes(5000))
    refused(analyzer, tmp_path / "noise.mp4", "not a video|no frame|no video")
    with pytest.raises(ClipError, match="cannot be read|no such clip"):
        analyzer.analyze("nul\0character.mp4")


def test_audio_only(analyzer, tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    refused(analyzer, path, "no video stream")


def test_clip_without_its_index(analyzer, tmp_path):
    clip = media.encode(tmp_path / "clip.mp4", media.panned("china", 12))  # the index of this mp4 stands at its end
    clip.write_bytes(clip.read_bytes()[:-2000])
    refused(analyzer, clip, "not a video that can be opened")


def test_truncated_stream_is_measured_and_said(analyzer, tmp_path):
    path = tmp_path / "fast.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "16", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 480, 320, "yuv420p"
        for pixels in media.panned("china", 30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    found = analyzer.analyze(path)
    assert 5 < found["raw"]["frames"] < 30 and found["raw"]["frames_missing"] == 30 - found["raw"]["frames"]
    assert "truncated" in {finding["kind"] for finding in found["findings"]}


def test_damaged_bytes_in_the_middle(analyzer, tmp_path):
    clip = media.encode(tmp_path / "clip.mp4", media.panned("china", 24))
    data = bytearray(clip.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 3000] = bytes(3000)
    clip.write_bytes(bytes(data))
    found = analyzer.analyze(clip)
    assert found["raw"]["frames"] > 0 and found["raw"]["damaged"] > 0


@pytest.mark.parametrize("frames", [1, 2])
def test_too_few_frames(analyzer, tmp_path, frames):
    found = analyzer.analyze(media.encode(tmp_path / "short.mp4", media.panned("china", frames)))
    assert "flicker" not in found["metrics"] and "frame" in found["absent"]["flicker"]
    assert found["raw"]["frames"] == frames and found["metrics"]["overall"] < 0.1


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("ten-bit.mp4", {"codec": "libx265", "pixel_format": "yuv420p10le", "options": {"x265-params": "log-level=none"}}),
        ("vp9.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "0"}}),
        ("ffv1.mkv", {"codec": "ffv1"}),
        ("alpha.mov", {"codec": "prores_ks", "pixel_format": "yuva444p10le"}),
        ("rgb.mov", {"codec": "qtrle", "pixel_format": "rgb24"}),
        ("444.mp4", {"pixel_format": "yuv444p"}),
        ("gray.mkv", {"codec": "ffv1", "pixel_format": "gray"}),
        ("gray16.mkv", {"codec": "ffv1", "pixel_format": "gray16le"}),
    ],
)
def test_other_formats_score_alike(analyzer, tmp_path, name, how):
    frames = media.panned("china", 12)
    plain = analyzer.analyze(media.encode(tmp_path / "plain.mp4", frames))
    found = analyzer.analyze(media.encode(tmp_path / name, frames, **how))
    assert found["raw"]["frames"] == 12
    for metric, score in plain["metrics"].items():
        assert found["metrics"][metric] == pytest.approx(score, abs=0.06), metric


def test_wrong_extension(analyzer, tmp_path):
    clip = media.encode(tmp_path / "clip.mp4", media.panned("flower", 8))
    renamed = clip.rename(tmp_path / "clip.txt")
    assert analyzer.analyze(renamed)["raw"]["frames"] == 8


@pytest.mark.parametrize("size", [(303, 201), (64, 36), (2, 2), (16, 400), (1920, 1080), (3840, 2160)])
def test_sizes(analyzer, tmp_path, size):
    clip = media.encode(tmp_path / "clip.mkv", media.panned("china", 4, size=size), codec="ffv1", pixel_format="yuv444p")
    found = analyzer.analyze(clip)
    assert (found["raw"]["width"], found["raw"]["height"]) == size
    if min(size) < 32:
        assert "blur" not in found["metrics"] and "smaller" in found["absent"]["blur"]
    else:
        assert set(found["metrics"]) == {"blur", "exposure", "blockiness", "flicker", "overall"}


def test_rotation_is_reported(analyzer, tmp_path):
    clip = media.encode(tmp_path / "clip.mp4", media.panned("china", 8))
    data = clip.read_bytes()
    # The display matrix of the track header (ISO/IEC 14496-12, 8.3.2): identity swapped for a quarter turn.
    identity = b"".join(value.to_bytes(4, "big") for value in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
    turned = b"".join(value.to_bytes(4, "big") for value in (0, 0x10000, 0, 0xFFFF0000, 0, 0, 0, 0, 0x40000000))
    place = data.index(identity, data.index(b"tkhd"))
    clip.write_bytes(data[:place] + turned + data[place + len(turned) :])
    assert analyzer.analyze(clip)["raw"]["rotation"] in (90, 270)


def test_variable_frame_rate(analyzer, tmp_path):
    steps = [0, 40, 80, 200, 240, 280, 400, 440, 900, 940]
    path = tmp_path / "variable.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 480, 320, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, moment in zip(media.panned("china", len(steps)), steps):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = moment, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    series = analyzer.analyze(path, series=True)["series"]
    assert series["seconds"] == pytest.approx([step / 1000 for step in steps], abs=0.002)


def test_time_limit(tmp_path):
    clip = media.encode(tmp_path / "clip.mp4", media.panned("china", 8))
    ticks = itertools.count(step=10.0)
    slow = VideoAnalyzer(AnalysisConfig(time_limit_s=35), clock=lambda: next(ticks))
    refused(slow, clip, "longer than the limit of 35 s")


def test_frame_limit(tmp_path):
    clip = media.encode(tmp_path / "clip.mp4", media.panned("china", 12))
    refused(VideoAnalyzer(AnalysisConfig(max_frames=10)), clip, "more than 10 frames")
