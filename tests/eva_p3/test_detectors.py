"""Each detector answers to its own defect, more to more of it, and leaves good clips alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from eva_p3 import anatomy, artifact, face_quality, frequency_artifact, temporal_consistency
from eva_p3.detection_types import Detection, Finding, absent
from eva_p3.frames import sample_frames
from tests import media

SIZE = (480, 320)


@pytest.fixture
def detect(tmp_path):
    def run(detector, frames, **how):
        samples, _ = sample_frames(media.encode(tmp_path / "clip.mp4", frames, **how))
        return detector.detect(samples)

    return run


def boiling(frames, amplitude):
    rng = np.random.default_rng(0)
    height, width = frames[0].shape[:2]

    def change(frame, _):
        blotches = rng.normal(0, 1, (height // 6, width // 6)).astype(np.float32)
        return frame + amplitude * cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]

    return media.each(frames, change)


def checkered(frames, amplitude, period):
    height, width = frames[0].shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    board = ((columns // (period // 2) + rows // (period // 2)) % 2 * 2 - 1) * amplitude
    return media.each(frames, lambda frame, _: frame + board[..., None])


@pytest.mark.parametrize("name", media.PHOTOS)
def test_temporal_consistency_falls_with_boiling(detect, name):
    detector = temporal_consistency.TemporalConsistency()
    frames = media.panned(name, 12, SIZE)
    scores = [detect(detector, boiling(frames, amplitude)).score for amplitude in (0, 5, 15, 30)]
    assert scores[0] > 0.98 and scores[3] < 0.35
    assert all(later < earlier for earlier, later in zip(scores, scores[1:]))


def test_motion_flicker_grain_and_cuts_are_consistent(detect):
    detector = temporal_consistency.TemporalConsistency()
    for frames in (
        media.panned("china", 12, SIZE, speed=10),
        media.panned("flower", 12, SIZE, zoom=1.4),
        media.flickering(media.panned("china", 12, SIZE), 0.1),
        media.noisy(media.panned("china", 12, SIZE), 8),
        media.panned("china", 9, SIZE) + media.panned("flower", 9, SIZE),
    ):
        assert detect(detector, frames).score > 0.95


def test_frames_that_do_not_belong_together_are_inconsistent(detect):
    mixed = [frame for both in zip(media.panned("china", 6, SIZE), media.panned("flower", 6, SIZE)) for frame in both]
    found = detect(temporal_consistency.TemporalConsistency(), mixed)
    assert found.score < 0.1 and found.findings[0].kind == "inconsistent_motion"


def test_temporal_consistency_says_what_it_cannot_do(detect):
    detector = temporal_consistency.TemporalConsistency()
    assert "two frames" in detect(detector, media.panned("china", 1, SIZE)).reason
    assert "structure" in detect(detector, [np.full((320, 480, 3), 90, np.uint8)] * 4).reason
    assert "smaller" in detect(detector, media.panned("china", 4, (40, 40))).reason


@pytest.mark.parametrize("period", [2, 4, 8, 16])
def test_checkerboards_of_every_stride_are_found(detect, period):
    detector = frequency_artifact.FrequencyArtifacts()
    frames = media.panned("flower", 8, SIZE)
    found = [detect(detector, checkered(frames, amplitude, period)) for amplitude in (0, 2, 4)]
    assert found[0].score > 0.95 > 0.6 > found[1].score > found[2].score
    assert found[2].findings[0].kind == "grid_pattern"
    assert found[2].raw["period_px"] == pytest.approx(period / np.sqrt(2), rel=0.02)


def test_small_pictures_have_no_spectrum(detect):
    assert "smaller than 128" in detect(frequency_artifact.FrequencyArtifacts(), media.panned("china", 4, (100, 100))).reason


@pytest.mark.parametrize("name", media.PHOTOS)
def test_artifacts_by_kind(detect, name):
    detector = artifact.Artifacts()
    frames = media.panned(name, 16, SIZE)
    good = detect(detector, frames)
    assert good.score > 0.98 and not good.findings
    assert detect(detector, media.noisy(frames, 10)).score > detect(detector, media.noisy(frames, 25)).score < 0.4
    burst = frames[:8] + media.noisy(frames[8:9], 25) + frames[9:]
    found = detect(detector, burst)
    assert found.score < 0.4 and [(finding.kind, finding.frame) for finding in found.findings] == [("noise_burst", 8)]


def test_oversaturation(detect):
    frames = media.panned("flower", 8, SIZE)
    vivid = media.each(frames, lambda frame, _: (frame - frame.mean(2, keepdims=True)) * 4.0 + frame.mean(2, keepdims=True))
    found = detect(artifact.Artifacts(), vivid)
    assert found.score < 0.7 and "oversaturated" in {finding.kind for finding in found.findings}


def test_banding_sees_bands_and_not_a_dithered_or_fine_shade():
    shade = np.tile(np.linspace(60, 110, 640), (360, 1))
    dithered = (shade + np.random.default_rng(1).normal(0, 1.5, shade.shape)).round().astype(np.uint8)
    banded = (np.floor(shade / 5) * 5).astype(np.uint8)
    assert artifact.banding(banded) > 2
    assert artifact.banding(dithered) == 0 and artifact.banding(shade.round().astype(np.uint8)) == 0
    edges = np.kron(np.random.default_rng(2).integers(0, 4, (9, 16)) * 60, np.ones((40, 40))).astype(np.uint8)
    assert artifact.banding(edges) == 0, "large steps are edges"


def test_shape_change_is_blind_to_shift_turn_and_scale():
    points = np.random.default_rng(3).normal(0, 10, (468, 2))
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert face_quality.shape_change(points, 1.7 * points @ turn + [40, -9]) < 1e-9
    melted = points + np.random.default_rng(4).normal(0, 2, points.shape)
    assert 0.1 < face_quality.shape_change(points, melted) < 0.3


def test_bones_are_compared_when_both_ends_are_seen():
    points = np.zeros((33, 3))
    points[:, 1] = np.arange(33) * 0.1
    seen = np.ones(33)
    assert anatomy.side_difference(points, seen) == pytest.approx(0)
    longer = points.copy()
    longer[[15, 25]] *= 2
    assert anatomy.side_difference(longer, seen) > 0.2
    assert anatomy.length_change((points, seen), (longer, seen)) > 0.2
    assert anatomy.length_change((points, seen), (points * 1.0, seen)) == 0
    assert anatomy.side_difference(points, np.zeros(33)) is None and anatomy.length_change((points, seen), (points, np.zeros(33))) is None


def test_without_mediapipe_the_reason_is_given(monkeypatch):
    from eva_p3 import mediapipe_models

    monkeypatch.setattr(mediapipe_models, "has_module", lambda name: False)
    assert anatomy.Anatomy().unavailable() == face_quality.FaceQuality().unavailable() == "mediapipe is not installed"
    monkeypatch.setattr(mediapipe_models, "has_module", lambda name: name == "mediapipe")
    assert "0.10.21" in anatomy.Anatomy().unavailable()


@pytest.mark.filterwarnings("ignore")
def test_mediapipe_detectors_on_clips_without_people(detect):
    detectors = (face_quality.FaceQuality(), anatomy.Anatomy())
    for detector in detectors:
        if detector.unavailable():
            pytest.skip(detector.unavailable())
        found = detect(detector, media.panned("china", 4, SIZE))
        assert found.score is None and "in the clip" in found.reason


@pytest.mark.filterwarnings("ignore")
def test_mediapipe_finds_a_face(real_clips):
    detector = face_quality.FaceQuality()
    if detector.unavailable():
        pytest.skip(detector.unavailable())
    found = detector.detect(sample_frames(real_clips / "carphone_pristine.mp4")[0])
    assert found.score > 0.5 and found.raw["faces"] >= 4


def test_a_detection_is_a_score_or_a_reason():
    with pytest.raises(ValueError):
        Detection(None)
    with pytest.raises(ValueError):
        Detection(1.2)
    assert absent("no face").reason == "no face"
    data = Finding("flash", 0.5, 0.5, 12, 3.0, "d", (0.1, 0.2, 0.3, 0.4)).as_dict()
    assert data["severity"] == 1.0 and data["box"] == [0.1, 0.2, 0.3, 0.4]
