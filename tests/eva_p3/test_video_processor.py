"""The processor: what it returns, what it refuses, and that nothing is invented."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from eva_env_base import ClipError, UsageError
from eva_p3.detection_logger import DetectionLogger
from eva_p3.detection_types import Detection, absent
from eva_p3.enhanced_analyzer import REGISTRY, WEIGHTS, build_detectors, deep_quality, version
from eva_p3.frames import SamplingPlan, sample_frames
from eva_p3.video_processor import VideoProcessor, main
from tests import media

PROJECT = Path(__file__).resolve().parents[2]
OFFLINE = ("temporal_consistency", "frequency_artifact_score", "artifact_score")


class Fixed:
    """A detector with a known answer."""

    def __init__(self, metric, score=0.5, reason="", error=None):
        self.metric, self.score, self.reason, self.error = metric, score, reason, error

    def unavailable(self):
        return self.reason

    def detect(self, samples):
        if self.error:
            raise self.error
        return Detection(self.score, raw={"samples": len(samples), "odd": float("nan")})


@pytest.fixture
def clip(tmp_path):
    return media.encode(tmp_path / "clip.mp4", media.panned("china", 12))


def test_answer(clip):
    answer = VideoProcessor(build_detectors(OFFLINE)).analyze_video(clip)
    assert set(answer["metrics"]) == {*OFFLINE, "deep_quality"} and answer["absent"] == {}
    assert all(0.9 < value <= 1 for value in answer["metrics"].values())
    assert answer["raw"]["deep_quality_from"] == sorted(OFFLINE) and answer["raw"]["frames"] == 12
    json.dumps(answer, allow_nan=False)


def test_all_detectors_measure_or_say_why_not(clip):
    answer = VideoProcessor().analyze_video(clip)
    for name in REGISTRY:
        assert (name in answer["metrics"]) != (name in answer["absent"])


def test_deep_quality_is_made_of_what_was_measured(clip):
    detectors = [
        Fixed("temporal_consistency", 0.8),
        Fixed("artifact_score", 0.4),
        Fixed("anatomy_score", reason="mediapipe is not installed"),
    ]
    answer = VideoProcessor(detectors).analyze_video(clip)
    expected = (0.8 * WEIGHTS["temporal_consistency"] + 0.4 * WEIGHTS["artifact_score"]) / (
        WEIGHTS["temporal_consistency"] + WEIGHTS["artifact_score"]
    )
    assert answer["metrics"]["deep_quality"] == pytest.approx(expected, abs=1e-6)
    assert answer["absent"] == {"anatomy_score": "mediapipe is not installed"}
    assert answer["raw"]["artifact_score"]["odd"] is None


def test_a_broken_detector_costs_only_its_own_score(clip):
    answer = VideoProcessor([Fixed("artifact_score", 0.4), Fixed("anatomy_score", error=ValueError("odd clip"))]).analyze_video(clip)
    assert answer["metrics"]["artifact_score"] == 0.4
    assert answer["absent"]["anatomy_score"] == "the detector failed: ValueError: odd clip"


def test_nothing_measured_nothing_claimed(clip):
    answer = VideoProcessor([Fixed("artifact_score", reason="no")]).analyze_video(clip)
    assert answer["metrics"] == {} and "deep_quality" in answer["absent"]
    assert deep_quality({}) is None and deep_quality({"unknown": 1.0}) is None
    assert absent("why").score is None


def test_one_frame(tmp_path):
    answer = VideoProcessor(build_detectors(OFFLINE)).analyze_video(media.encode(tmp_path / "one.mp4", media.panned("china", 1)))
    assert "temporal_consistency" in answer["absent"] and "artifact_score" in answer["metrics"]


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 40])
def test_sampling_is_even_and_in_pairs(tmp_path, frames):
    samples, facts = sample_frames(media.encode(tmp_path / "clip.mp4", media.panned("flower", frames, (96, 64))), SamplingPlan(pairs=4))
    assert facts["frames"] == frames and facts["width"] == 96
    indices = [sample.index for sample in samples]
    assert indices == sorted(indices) and 1 <= len(indices) <= 8 and indices[-1] >= frames // 2 - 1
    assert all(sample.small_next is not None for sample in samples if sample.index < frames - 1)
    assert all(sample.small_next is None for sample in samples if sample.index == frames - 1)


def test_refusals(tmp_path):
    processor = VideoProcessor([Fixed("artifact_score")])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video", encoding="utf-8")
    for name, words in (("none.mp4", "no such clip"), ("empty.mp4", "empty"), ("text.mp4", "not a video"), (".", "not a file")):
        with pytest.raises(ClipError, match=words):
            processor.analyze_video(tmp_path / name)
    ticks = itertools.count(step=100.0)
    slow = VideoProcessor([], clock=lambda: next(ticks))
    with pytest.raises(ClipError, match="longer than"):
        slow.analyze_video(media.encode(tmp_path / "clip.mp4", media.panned("china", 6)))


def test_command_line(clip, tmp_path, capsys):
    assert main([str(clip), "--only", "artifact_score,temporal_consistency"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"].keys() == {"artifact_score", "temporal_consistency", "deep_quality"}
    assert main([str(tmp_path / "none.mp4"), str(clip), "--only", "frequency_artifact_score"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "no such clip" in lines[0]["error"] and "deep_quality" in lines[1]["metrics"]
    with pytest.raises(UsageError, match="names no detector"):
        main([str(clip), "--only", "beauty"])


def test_command_line_as_a_process():
    run = subprocess.run(
        [sys.executable, "-m", "eva_p3.video_processor", "--help"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0 and "CLIP" in run.stdout


def test_registry():
    assert set(REGISTRY) == set(WEIGHTS)
    assert [detector.metric for detector in build_detectors()] == list(REGISTRY)
    with pytest.raises(KeyError):
        build_detectors(["beauty"])
    assert version(["a"]) == version(["a"]) != version(["b"])


def test_detection_logger(tmp_path):
    logger = DetectionLogger(tmp_path / "logs" / "deep.jsonl", max_bytes=400, clock=lambda: 5.0)
    for index in range(8):
        assert logger.write({"video": f"clip {index}.mp4", "metrics": {"deep_quality": 0.5}})
    lines = [json.loads(line) for line in logger.path.read_text(encoding="utf-8").splitlines()]
    assert lines[-1]["video"] == "clip 7.mp4" and lines[-1]["ts"] == 5.0
    assert logger.path.stat().st_size <= 400 and (tmp_path / "logs" / "deep.jsonl.1").exists()


def test_detection_logger_that_cannot_write_says_so_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    logger = DetectionLogger(tmp_path / "file" / "deep.jsonl")
    assert not logger.write({"video": "a"}) and not logger.write({"video": "b"})
    assert len(caplog.records) == 1
