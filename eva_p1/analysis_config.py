"""Every number the fast metrics depend on, in one place, with a version written beside each score.

A score of two clips may be compared only when their ``version`` is the same; change a number here and
:attr:`AnalysisConfig.version` changes by itself.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property

from eva_env_base import UsageError

#: Grows when a formula changes; a changed number alone shows in the digest that follows it.
FORMULAS = 3
METRICS = ("blur", "exposure", "blockiness", "flicker")


@dataclass(frozen=True)
class ScoreCurve:
    """Maps a defect's size x >= 0 to a score: ``1 / (1 + (x / half) ** steep)``; 1 without defect, 0.5 at ``half``."""

    half: float
    steep: float


@dataclass(frozen=True)
class AnalysisConfig:
    """Sampling, reference points and weights of :class:`eva_p1.video_analyzer.VideoAnalyzer`.

    Reference points are stated in the unit of the raw measurement they map (see ``docs/metrics.md``).
    """

    # -- sampling
    time_limit_s: float = 60.0
    """Wall seconds one clip may take; beyond it the clip is refused."""
    max_frames: int = 20_000
    """Frames kept for the temporal measures; a longer clip is refused (generated clips have tens to hundreds)."""
    sampled_frames: int = 4
    """Frames measured at full resolution (blur, blockiness, noise), spread over the clip."""
    exposure_frames: int = 12
    """Frames whose histogram is taken (exposure), spread over the clip."""
    sparse_width: int = 320
    """Every frame is thinned to about this many columns for exposure and the temporal measures."""
    grid_cells: int = 32
    """Cells along the longer side of the grid of block means used by flicker, motion and freeze."""

    # -- blur: edge width (pixels at a shorter side of 480)
    blur_scales: tuple[float, float] = (1.2, 2.4)
    """Gaussian scales, in pixels, at which edge energy is compared."""
    blur_edge_share: float = 0.01
    """Share of pixels, by gradient at the coarse scale, that count as the strongest edges."""
    blur_curve: ScoreCurve = field(default_factory=lambda: ScoreCurve(2.5, 4.0))
    blur_size_exponent: float = 0.2
    """0 judges sharpness per pixel, 1 at equal viewing size; between, a larger picture may be a little softer."""

    # -- blockiness: relative excess of luma steps on the block grid
    block_periods: tuple[float, float] = (3.9, 40.0)
    block_step_caps: tuple[int, ...] = (12, 64)
    """Luma steps are capped here, the worst result counts: a coder's block edges are small steps among large natural
    edges; those of a decoder that broke are large ones, also under noise."""
    block_large_free: float = 0.15
    """Excess of large steps that a row of windows or columns may have by itself."""
    quantiser_full: float = 250.0
    """Quantiser step, in luma codes, that counts like an excess of 1: what a deblocking filter hides it does not mend."""
    block_curve: ScoreCurve = field(default_factory=lambda: ScoreCurve(0.36, 1.8))

    # -- exposure
    clip_margin: int = 2
    """Codes this near to black or white count as clipped."""
    clip_curve: ScoreCurve = field(default_factory=lambda: ScoreCurve(0.25, 1.6))
    flat_range: tuple[float, float] = (0.15, 0.50)
    """Spread of luma (99th minus 1st percentile) at which a picture is washed out, and from which it is not."""
    flat_floor: float = 0.5
    """What a washed-out picture keeps of its exposure score."""
    lift_curve: ScoreCurve = field(default_factory=lambda: ScoreCurve(0.6, 2.0))
    """Level (0..1) of the darkest hundredth: blacks that are lifted to gray."""
    mean_low: tuple[float, float] = (0.02, 0.16)
    """Mean luma (0..1) at which the score is 0 and from which it is 1, at the dark end."""
    mean_high: tuple[float, float] = (0.97, 0.80)
    """The same at the bright end."""

    # -- flicker: relative luma amplitude (rms over frames)
    flicker_lags: tuple[int, ...] = (1, 2, 3)
    flicker_curve: ScoreCurve = field(default_factory=lambda: ScoreCurve(0.045, 1.6))
    flicker_local_free: float = 0.02
    """Local reversals up to this size, and up to ``flicker_local_motion`` times the motion, are what moving texture does."""
    flicker_local_motion: float = 0.35
    flicker_local_weight: float = 0.5
    dark_cell: float = 0.06
    """Cells darker than this (letterbox, night) carry no relative measure."""
    bright_cell: float = 0.9
    """Cells brighter than this may be clipped and do not follow a change of brightness."""

    # -- motion, freeze, flashes, black, cuts
    freeze_level: float = 0.006
    """A frame is held when no cell moved more than this (share of the luma range) since the hold began, noise apart."""
    freeze_min_s: float = 0.3
    """Shorter holds are repeated frames of a lower frame rate, not a freeze."""
    flash_level: float = 0.03
    """Smallest relative jump of brightness reported as a flash or as flicker."""
    black_level: float = 0.10
    """A frame whose 99th percentile of luma lies below this is black."""
    content_range: tuple[float, float] = (0.02, 0.12)
    """Contrast (99th minus 1st percentile of block means, noise taken off) at which a clip is empty, and from which it is a picture."""
    frozen_range: tuple[float, float] = (0.15, 0.85)
    """Held share of the clip from which ``overall`` falls, and at which it is nearly nothing."""
    guard_floor: float = 0.03
    """What a guard (empty, frozen, stutter, noise, colour, short) leaves at worst of ``overall``."""
    stutter_share: float = 0.25
    """Repeated frames up to this share are forgiven."""
    stutter_fps: tuple[float, float] = (1.0, 11.0)
    """Different frames a second at which a clip that repeats frames is no motion, and from which it is fluent."""
    short_range: tuple[int, int] = (1, 8)
    """Frames at which a clip is no video, and from which it is one."""
    exposure_trim: float = 0.1
    """Share of frames, the worst exposed, that do not count: a fade is no fault."""

    noise_curve: ScoreCurve = field(default_factory=lambda: ScoreCurve(18.0, 3.0))
    """White noise (sd in luma codes) against ``overall``; grain up to about 6 costs nearly nothing."""

    pure_colour: float = 90.0
    """Distance from gray, in codes of Cb and Cr, from which a pixel counts as driven to pure colour."""
    colour_curve: ScoreCurve = field(default_factory=lambda: ScoreCurve(0.25, 1.3))
    """Share of such pixels against ``overall``: too strong a guidance burns colours long before luma clips."""

    # -- overall
    weights: tuple[tuple[str, float], ...] = (("blur", 0.3), ("exposure", 0.2), ("blockiness", 0.25), ("flicker", 0.25))
    mean_power: float = -2.0
    """Power mean of the scores: the lower, the more the worst one decides (1 arithmetic, -1 harmonic)."""
    score_floor: float = 0.01
    """A score counts as at least this inside the power mean, so that a zero does not erase the others' order."""

    def __post_init__(self) -> None:
        if {name for name, _ in self.weights} != set(METRICS) or any(weight <= 0 for _, weight in self.weights):
            raise UsageError(f"analysis weights must give each of {', '.join(METRICS)} a positive weight, not {self.weights}")
        for name in ("time_limit_s", "max_frames", "sampled_frames", "exposure_frames", "sparse_width", "grid_cells", "score_floor"):
            if getattr(self, name) <= 0:
                raise UsageError(f"analysis setting {name} must be positive, not {getattr(self, name)}")
        if not 0 < self.blur_scales[0] < self.blur_scales[1]:
            raise UsageError(f"analysis setting blur_scales must be two growing scales, not {self.blur_scales}")

    @cached_property
    def version(self) -> str:
        """``FORMULAS`` and a digest of every number above, such as ``3-3f9a2c01``."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{FORMULAS}-{hashlib.sha256(text.encode('utf-8')).hexdigest()[:8]}"
