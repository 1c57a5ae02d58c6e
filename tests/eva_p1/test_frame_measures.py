"""Measures of a single frame and of series, on pictures whose answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from eva_p1 import frame_measures as spatial
from eva_p1 import temporal_measures
from eva_p1.analysis_config import AnalysisConfig, ScoreCurve
from eva_p1.metric_scores import exposure_of_histograms, falling, overall_score, ramp
from eva_p1.temporal_measures import find_cuts, relative_change, reversals

CONFIG = AnalysisConfig()
BUFFERS = spatial.Buffers()


def steps(sigma: float, contrast: float = 120.0, size: int = 256) -> np.ndarray:
    """Four vertical edges, blurred by sigma."""
    picture = np.full((size, size), 60.0, np.float32)
    for left in range(32, size, 64):
        picture[:, left : left + 32] = 60 + contrast
    return np.rint(cv2.GaussianBlur(picture, (0, 0), sigma) if sigma else picture).astype(np.uint8)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("contrast", [40.0, 120.0])
def test_edge_width_is_the_width_of_a_known_edge(sigma, contrast):
    energy = spatial.edge_energy(steps(sigma, contrast)[None], CONFIG, 0.0, BUFFERS)
    expected = np.hypot(sigma, CONFIG.blur_scales[0])
    # A cross-section wider than the 11 pixels looked at is cut, so that wide edges come out up to 15 % narrower.
    assert spatial.edge_width([energy], CONFIG.blur_scales) == pytest.approx(expected, rel=0.15)


def test_edge_width_with_noise_taken_off():
    rng = np.random.default_rng(3)
    noisy = np.clip(steps(2.0) + rng.normal(0, 10, (256, 256)), 0, 255).astype(np.uint8)
    energy = spatial.edge_energy(noisy[None], CONFIG, spatial.noise_sigma(noisy[None], BUFFERS), BUFFERS)
    assert spatial.edge_width([energy], CONFIG.blur_scales) == pytest.approx(np.hypot(2.0, 1.2), rel=0.1)


def test_no_edge_no_width():
    assert spatial.edge_energy(np.full((1, 64, 64), 90, np.uint8), CONFIG, 0.0, BUFFERS) is None
    assert spatial.edge_energy(np.zeros((1, 16, 64), np.uint8), CONFIG, 0.0, BUFFERS) is None


@pytest.mark.parametrize("sigma", [0.0, 2.0, 5.0, 10.0, 20.0])
def test_noise_sigma_is_the_noise(sigma):
    rng = np.random.default_rng(1)
    picture = np.clip(np.linspace(60, 190, 256)[None, :] + rng.normal(0, sigma, (256, 256)), 0, 255)
    assert spatial.noise_sigma(np.rint(picture).astype(np.uint8)[None], BUFFERS) == pytest.approx(sigma, rel=0.06, abs=0.35)


@pytest.mark.parametrize("period", [8.0, 6.4, 16.0, 10.0])
@pytest.mark.parametrize("phase", [0.0, 3.0])
def test_block_grid_is_found_at_any_period_and_phase(period, phase):
    rng = np.random.default_rng(2)
    lines = np.arange(phase, 400, period)

    def profile(height):
        values = 1.0 + rng.normal(0, 0.02, 400)
        np.add.at(values, np.round(lines).astype(int) % 400, height)
        return values

    weak, strong = (spatial.block_grid(profile(height), profile(height), CONFIG.block_periods) for height in (0.3, 1.0))
    assert strong.period == pytest.approx(period, rel=0.01)
    assert strong.excess > 2 * weak.excess > 0.05


def test_no_grid_in_noise():
    rng = np.random.default_rng(4)
    found = spatial.block_grid(1 + rng.normal(0, 0.05, 640), 1 + rng.normal(0, 0.05, 360), CONFIG.block_periods)
    assert found.excess < 0.06


def test_thin_keeps_the_histogram():
    rng = np.random.default_rng(5)
    picture = rng.integers(0, 256, (720, 1280), dtype=np.uint8)
    sparse = spatial.thin(picture, 320)
    assert sparse.shape == (180, 320)
    assert spatial.histogram(sparse).sum() == pytest.approx(1)
    assert np.abs(spatial.histogram(sparse) - 1 / 256).max() < 0.003


def test_busiest_tiles_are_taken():
    picture = np.full((1024, 1024), 80, np.uint8)
    picture[512:640, 256:384] = np.random.default_rng(6).integers(0, 255, (128, 128))
    tiles = spatial.busiest_tiles(picture, spatial.thin(picture, 320))
    assert len(tiles) == spatial.TILES and tiles[0].shape == (128, 128) and tiles[0].std() > 50
    assert max(tile.std() for tile in tiles[1:]) < 1


def test_a_small_frame_is_its_own_tile():
    picture = np.random.default_rng(7).integers(0, 255, (144, 176), dtype=np.uint8)
    assert [tile.shape for tile in spatial.busiest_tiles(picture, picture)] == [(144, 176)]


def test_reversals_answer_to_and_fro_only():
    there, back = np.array([0.3, 0.3, 0.3, 0.0]), np.array([-0.2, 0.3, 0.0, -0.3])
    assert reversals(there, back).tolist() == [0.2, 0.0, 0.0, 0.0]


def test_relative_change_separates_gain_from_motion():
    rng = np.random.default_rng(8)
    before = rng.uniform(0.2, 0.8, (1, 18, 32)).astype(np.float32)
    common, rest = relative_change(before, before * 1.1, 0.06)
    assert common[0] == pytest.approx(0.1 / 1.05, rel=1e-3) and np.abs(rest).max() < 1e-3
    common, rest = relative_change(before, np.roll(before, 1, axis=2), 0.06)
    assert abs(common[0]) < 0.08 < np.abs(rest).max()


def test_find_cuts():
    motion = np.full(20, 0.01)
    motion[7] = 0.3
    assert find_cuts(motion) == (8,)
    motion[8] = 0.3
    assert find_cuts(motion) == (), "two large changes in a row are a flash or fast motion"


def test_exposure_of_histograms_in_both_ranges():
    shares = np.zeros(256)
    shares[16] = shares[235] = 0.5
    assert exposure_of_histograms(shares[None], full_range=False, margin=2)[0] == pytest.approx((0.5, 0.5, 0.5, 1.0, 0.0))
    mean, low, high, spread, darkest = exposure_of_histograms(shares[None], full_range=True, margin=2)[0]
    assert (
        mean == pytest.approx((16 + 235) / 510)
        and (low, high) == (0, 0)
        and spread == pytest.approx(219 / 255)
        and darkest == pytest.approx(16 / 255)
    )


def test_curves():
    assert falling(0, ScoreCurve(2, 3)) == 1 and falling(2, ScoreCurve(2, 3)) == 0.5
    assert ramp(5, 0, 10) == 0.5 and ramp(-1, 0, 10) == 0 and ramp(0.9, 0.97, 0.8) > 0


def test_overall_lies_near_the_worst():
    good = dict.fromkeys(("blur", "exposure", "blockiness", "flicker"), 1.0)
    assert overall_score(good, {}, CONFIG) == pytest.approx(1)
    for name in good:
        previous = 1.0
        for worst in (0.8, 0.5, 0.2, 0.05):
            overall = overall_score({**good, name: worst}, {}, CONFIG)
            assert worst <= overall < previous
            previous = overall
        assert previous < 0.15, "one ruinous defect cannot hide behind three good scores"
    assert overall_score({}, {}, CONFIG) is None
    assert overall_score(good, {"frozen": 0.03}, CONFIG) == pytest.approx(0.03)


def test_measures_over_time_do_not_depend_on_the_size_of_the_pieces(monkeypatch):
    grid = np.random.default_rng(9).uniform(0.2, 0.8, (30, 18, 32)).astype(np.float32)
    ordered, seconds = np.sort(grid.reshape(30, -1), axis=1)[:, ::9], np.arange(30) / 24
    whole = temporal_measures.measure_time(grid, ordered, seconds, 0.0, CONFIG)
    monkeypatch.setattr(temporal_measures, "PIECE", 700)  # one row of 576 cells at a time
    pieced = temporal_measures.measure_time(grid, ordered, seconds, 0.0, CONFIG)
    assert pieced.flicker_local == pytest.approx(whole.flicker_local, rel=1e-5) and whole.flicker_local > 0.05
    assert (pieced.repeated_share, pieced.frozen_share, pieced.motion) == (whole.repeated_share, whole.frozen_share, whole.motion)


def test_the_median_of_a_change_is_taken_all_over_the_picture():
    places = temporal_measures.spread_places(18 * 32)
    assert len(set(places.tolist())) == temporal_measures.MEDIAN_CELLS and places.max() > 17 * 32
    assert set((places % 32).tolist()) == set(range(32)), "every column"
    assert temporal_measures.spread_places(5).tolist() == [0, 1, 2, 3, 4]
