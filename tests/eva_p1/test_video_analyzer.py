"""Scores on clips with one known defect, and what they must not mistake for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eva_env_base import ClipError, UsageError
from eva_p1.analysis_config import AnalysisConfig, ScoreCurve
from eva_p1.video_analyzer import VideoAnalyzer, main
from tests import media

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def analyzer():
    return VideoAnalyzer()


@pytest.fixture
def measure(analyzer, tmp_path):
    def run(frames, name="clip.mp4", **how):
        return analyzer.analyze(media.encode(tmp_path / name, frames, **how))

    return run


def falls(values, by=0.0):
    return all(later < earlier - by for earlier, later in zip(values, values[1:]))


@pytest.mark.parametrize("name", media.PHOTOS)
def test_good_clip_scores_high_and_says_what_it_is(measure, name):
    found = measure(media.panned(name))
    assert set(found["metrics"]) == {"blur", "exposure", "blockiness", "flicker", "overall"}
    assert found["metrics"]["overall"] > 0.9 and found["absent"] == {} and found["findings"] == []
    raw = found["raw"]
    assert (raw["frames"], raw["width"], raw["height"]) == (24, 480, 320)
    assert raw["fps"] == pytest.approx(24) and raw["seconds"] == pytest.approx(1.0)
    assert raw["motion"] > 0.005 and raw["frozen_share"] == 0 and raw["codec"] == "h264"
    assert found["version"] == AnalysisConfig().version
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("name", media.PHOTOS)
def test_blur_falls_with_blur_and_ignores_noise(measure, name):
    clean = media.panned(name, 8)
    scores = [measure(media.blurred(clean, sigma))["metrics"]["blur"] for sigma in (0, 0.5, 1, 1.5, 2, 3, 4)]
    assert falls(scores) and scores[0] > 0.85 and scores[4] < 0.7 and scores[-1] < 0.2
    for sigma, score in ((0, scores[0]), (2, scores[4]), (4, scores[6])):
        noisy = measure(media.noisy(media.blurred(clean, sigma), 10))["metrics"]["blur"]
        assert noisy <= score + 0.05


def test_blur_falls_at_full_hd_too(measure):
    frames = media.panned("china", 3, size=(1920, 1080))
    scores = [measure(media.blurred(frames, sigma))["metrics"]["blur"] for sigma in (0, 1, 2, 4)]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.9 and scores[1] - scores[3] > 0.4


def test_darkness_does_not_blur(measure):
    clean = media.panned("flower", 8)
    dark = media.each(clean, lambda frame, _: frame * 0.5)
    assert measure(dark)["metrics"]["blur"] == pytest.approx(measure(clean)["metrics"]["blur"], abs=0.05)


@pytest.mark.parametrize("name", media.PHOTOS)
def test_blockiness_falls_with_quantisation_and_survives_rescaling(measure, analyzer, tmp_path, name):
    frames = media.panned(name, 10)
    scores, shrunk = [measure(frames)["metrics"]["blockiness"]], [measure(media.rescaled(frames, 0.8))["metrics"]["blockiness"]]
    for quantiser in ("5", "10", "18", "31"):
        coded = media.encode(tmp_path / f"q{quantiser}.mp4", frames, codec="mpeg4", options={"qmin": quantiser, "qmax": quantiser})
        found = analyzer.analyze(coded)
        scores.append(found["metrics"]["blockiness"])
        again = measure(media.rescaled(media.decoded(coded), 0.8))
        shrunk.append(again["metrics"]["blockiness"])
    assert falls(scores) and scores[0] > 0.95 and scores[-1] < 0.75
    assert found["raw"]["block_period_px"] == pytest.approx(8, abs=0.05)
    assert again["raw"]["block_period_px"] == pytest.approx(6.4, abs=0.1), "the grid is found again after rescaling to 0.8"
    assert shrunk[-1] < shrunk[0] - 0.08


@pytest.mark.parametrize("name", media.PHOTOS)
def test_blockiness_falls_with_x264_quality_though_the_deblocking_filter_hides_the_grid(measure, name):
    frames = media.panned(name, 10)
    found = [measure(frames, options={"crf": str(crf), "preset": "veryfast"}) for crf in (10, 18, 26, 34, 42, 51)]
    scores = [item["metrics"]["blockiness"] for item in found]
    assert falls(scores) and scores[1] > 0.97 and scores[3] < 0.95 and scores[-1] < 0.3
    steps = [item["raw"]["quantiser_step"] for item in found]
    assert falls([-step for step in steps]) and steps[0] < 4 and steps[-1] > 100


def test_rescaling_alone_leaves_no_grid(measure):
    assert all(measure(media.rescaled(media.panned(name, 8), 0.8))["metrics"]["blockiness"] > 0.97 for name in media.PHOTOS)


@pytest.mark.parametrize("name", media.PHOTOS)
def test_flicker_falls_with_gain_flicker(measure, name):
    frames = media.panned(name)
    found = [measure(media.flickering(frames, amplitude)) for amplitude in (0, 0.02, 0.05, 0.1, 0.2)]
    scores = [item["metrics"]["flicker"] for item in found]
    assert falls(scores, by=0.02) and scores[0] > 0.97 and scores[3] < 0.35
    assert found[-1]["findings"][0]["kind"] in ("flicker", "flash")


@pytest.mark.parametrize("speed", [0.5, 2, 5, 10, 20])
def test_a_pan_is_no_flicker(measure, speed):
    for name in media.PHOTOS:
        assert measure(media.panned(name, speed=speed))["metrics"]["flicker"] > 0.95, name


def test_zoom_cut_and_fade_are_no_flicker(measure):
    pan = media.panned("china")
    cut = measure(pan[:12] + media.panned("flower", 12))
    assert cut["metrics"]["flicker"] > 0.95 and cut["raw"]["cuts"] == [12]
    assert measure(media.panned("china", zoom=1.5))["metrics"]["flicker"] > 0.95
    fade = measure(media.each(pan, lambda frame, index: frame * min(1, index / 8)))
    assert fade["metrics"]["flicker"] > 0.95 and fade["metrics"]["exposure"] > 0.9 and fade["raw"]["cuts"] == []


def test_flicker_is_seen_when_every_frame_is_shown_twice(measure):
    doubled = [frame for frame in media.flickering(media.panned("china", 16), 0.1) for _ in range(2)]
    assert measure(doubled)["metrics"]["flicker"] < 0.4


@pytest.mark.parametrize(("place", "gain"), [(0, 1.25), (12, 1.3), (23, 0.75)])
def test_flash_is_found_where_it_is(measure, place, gain):
    frames = media.panned("flower")
    frames[place] = media.each([frames[place]], lambda frame, _: frame * gain)[0]
    found = measure(frames)
    flash = found["findings"][0]
    assert flash["kind"] == "flash" and flash["frame"] == place and flash["start_s"] == pytest.approx(place / 24, abs=0.001)
    assert found["metrics"]["flicker"] < 0.8
    ends = (found["raw"]["first_frame_jump"], found["raw"]["last_frame_jump"])
    assert [jump > 0.1 for jump in ends] == [place == 0, place == 23]


@pytest.mark.parametrize("name", media.PHOTOS)
def test_exposure_falls_to_both_sides(measure, name):
    frames = media.panned(name, 6)
    dark = [measure(media.exposed(frames, shift))["metrics"]["exposure"] for shift in (0, -40, -80)]
    bright = [measure(media.exposed(frames, shift))["metrics"]["exposure"] for shift in (40, 80, 120, 160)]
    assert falls(dark, by=0.1) and falls(bright) and dark[0] > 0.95


def test_lifted_blacks_cost_even_where_nothing_clips(measure):
    frames = media.panned("flower", 6)  # a dark picture: its mean only gets better
    lifted = [measure(media.exposed(frames, shift)) for shift in (0, 30, 60)]
    assert falls([item["metrics"]["exposure"] for item in lifted], by=0.01)
    assert lifted[-1]["raw"]["clipped_white"] < 0.05 < lifted[-1]["raw"]["luma_darkest"]


def test_full_range_luma_is_not_taken_for_clipped(measure):
    frames = media.panned("china", 8)
    video, full = measure(frames), measure(frames, pixel_format="yuvj420p")
    assert full["raw"]["full_range"] and not video["raw"]["full_range"]
    assert full["metrics"]["exposure"] == pytest.approx(video["metrics"]["exposure"], abs=0.02)


def test_letterbox_is_found_and_forgiven(measure):
    frames = media.panned("china", 12)
    for frame in frames:
        frame[:40] = frame[-40:] = 0
    found = measure(frames)
    assert found["raw"]["letterbox"]["top"] == pytest.approx(40 / 320, abs=0.01)
    assert found["raw"]["letterbox"]["left"] == 0
    assert found["metrics"]["exposure"] > 0.9 and found["metrics"]["blockiness"] > 0.9 and found["metrics"]["flicker"] > 0.97


def still(value=None):
    picture = media.panned("china", 1)[0]
    return [picture if value is None else np.full_like(picture, value)] * 24


@pytest.mark.parametrize(
    "frames",
    [still(), media.noisy(still(), 10), media.flickering(still(), 0.1), still(0), still(255), still(120), media.noisy(still(120), 25)],
    ids=["frozen", "frozen+grain", "frozen+flicker", "black", "white", "gray", "noise"],
)
def test_a_clip_that_shows_nothing_cannot_win(measure, frames):
    good = measure(media.panned("flower"))["metrics"]["overall"]
    found = measure(frames)
    assert found["metrics"]["overall"] < 0.1 < good
    assert found["raw"]["frozen_share"] > 0.9 or found["raw"]["guards"]["empty"] < 0.1


def test_partial_freeze_is_found_and_costs(measure):
    frames = media.panned("china")
    found = measure(frames[:8] + [frames[8]] * 10 + frames[8:14])
    freeze = found["findings"][0]
    assert freeze["kind"] == "freeze" and freeze["frame"] == 8
    assert freeze["end_s"] - freeze["start_s"] == pytest.approx(10 / 24, abs=0.05)
    assert found["metrics"]["overall"] < 0.8


@pytest.mark.parametrize(("times", "low", "high"), [(2, 0.4, 0.95), (3, 0.1, 0.8), (5, 0.0, 0.3)])
def test_a_stutter_costs(measure, times, low, high):
    frames = media.panned("china", 30 // times, speed=2.0 * times)
    found = measure([frame for frame in frames for _ in range(times)], fps=16)
    assert found["raw"]["repeated_share"] == pytest.approx(1 - 1 / times, abs=0.1)
    assert low <= found["metrics"]["overall"] <= high


def test_steady_slow_motion_is_no_stutter(measure):
    assert measure(media.panned("flower", speed=0.3))["raw"]["repeated_share"] == 0


def test_a_mosaic_of_large_blocks_is_blocky_even_under_noise(measure):
    rng = np.random.default_rng(1)
    offsets = np.kron(rng.integers(-80, 80, (14, 20)), np.ones((24, 24)))[:320, :480, None]
    broken = media.noisy(media.each(media.panned("china", 8), lambda frame, _: frame + offsets), 20)
    found = measure(broken)
    assert found["raw"]["block_period_px"] == pytest.approx(24, rel=0.02) and found["metrics"]["blockiness"] < 0.6


def test_a_washed_out_picture_is_badly_exposed(measure):
    washed = media.each(media.panned("china", 8), lambda frame, _: 110 + 0.25 * (frame - 110.0))
    assert measure(washed)["metrics"]["exposure"] < 0.8


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_burnt_colours_cost_and_vivid_ones_do_not(measure, pixel_format):
    frames = media.panned("flower", 8)
    burnt = media.each(frames, lambda frame, _: (frame - frame.mean(2, keepdims=True)) * 4.0 + frame.mean(2, keepdims=True))
    vivid, found = measure(frames, pixel_format=pixel_format), measure(burnt, pixel_format=pixel_format)
    assert vivid["raw"]["guards"]["colour"] > 0.97 and found["raw"]["guards"]["colour"] < 0.6
    assert found["metrics"]["overall"] < 0.6


def test_without_colour_planes_colour_is_not_judged(measure):
    found = measure(media.panned("china", 8), name="gray.mkv", codec="ffv1", pixel_format="gray")
    assert "colour" not in found["raw"]["guards"] and "pure_colour_share" not in found["raw"]


def test_one_ruinous_defect_cannot_hide(measure):
    frames = media.panned("china")
    for ruined in (media.blurred(frames, 4), media.flickering(frames, 0.2), media.exposed(frames, 150)):
        metrics = measure(ruined)["metrics"]
        worst = min(value for name, value in metrics.items() if name != "overall")
        assert worst < 0.2 and metrics["overall"] < 0.4


def test_series_have_one_entry_a_frame(analyzer, tmp_path):
    clip = media.encode(tmp_path / "clip.mp4", media.panned("china", 9))
    series = analyzer.analyze(clip, series=True)["series"]
    assert {len(values) for values in series.values()} == {9}
    assert series["motion"][0] is None, "the first frame has nothing to be compared with"


def test_version_changes_with_every_number():
    assert AnalysisConfig().version == AnalysisConfig().version
    assert AnalysisConfig(blur_curve=ScoreCurve(2.0, 4.0)).version != AnalysisConfig().version


@pytest.mark.parametrize("wrong", [{"weights": (("blur", 1.0),)}, {"time_limit_s": 0}, {"blur_scales": (2.0, 1.0)}])
def test_config_refuses_nonsense(wrong):
    with pytest.raises(UsageError):
        AnalysisConfig(**wrong)


def test_command_line(tmp_path, capsys):
    good = media.encode(tmp_path / "good clip ö.mp4", media.panned("china", 6))
    assert main([str(good)]) == 0
    assert json.loads(capsys.readouterr().out)["video"] == str(good)
    assert main([str(tmp_path / "none.mp4"), str(good)]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "no such clip" in lines[0]["error"] and lines[1]["metrics"]["overall"] > 0.5


def test_command_line_as_a_process():
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "eva_p1.video_analyzer", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False
        )

    assert run("--help").returncode == 0
    assert run().returncode == 2


def test_interrupt_ends_with_130(monkeypatch):
    from eva_env_base import run_door

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoAnalyzer, "analyze", interrupted)
    assert run_door(lambda: main(["x.mp4"])) == 130


def test_real_clips_rank_as_people_would(analyzer, real_clips):
    good, bad = (analyzer.analyze(real_clips / f"carphone_{kind}.mp4")["metrics"] for kind in ("pristine", "distorted"))
    assert good["blur"] > bad["blur"] and good["overall"] > bad["overall"]
    for clip in sorted(real_clips.glob("*.mp4")):
        metrics = analyzer.analyze(clip)["metrics"]
        assert len(metrics) == 5 and all(0 <= value <= 1 for value in metrics.values())


def test_clip_error_is_an_eva_error(analyzer, tmp_path):
    with pytest.raises(ClipError, match="no such clip"):
        analyzer.analyze(tmp_path / "missing.mp4")
