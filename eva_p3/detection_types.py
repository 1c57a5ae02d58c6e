"""What detectors are given and what they hand back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """A frame and the one after it.

    ``luma``: full resolution, 0..255, (height, width). ``rgb``: at most ``SamplingPlan.rgb_side`` on its longer side.
    ``small`` and ``small_next``: luma of this and the next frame at about ``SamplingPlan.flow_side``; ``small_next`` and
    ``rgb_next`` are ``None`` for the clip's last frame.
    """

    index: int
    seconds: float
    luma: Gray
    rgb: Rgb
    small: Gray
    small_next: Gray | None
    rgb_next: Rgb | None


@dataclass(frozen=True)
class Finding:
    """Something to look at: what, when, where, how bad. ``box``: left, top, width, height as shares of the picture."""

    kind: str
    start_s: float
    end_s: float
    frame: int
    severity: float
    detector: str = ""
    box: tuple[float, float, float, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The form in which it is written and sent; ``box`` only where there is one."""
        data: dict[str, Any] = {
            "kind": self.kind,
            "start_s": round(self.start_s, 4),
            "end_s": round(self.end_s, 4),
            "frame": self.frame,
            "severity": round(min(1.0, max(0.0, self.severity)), 4),
            "detector": self.detector,
        }
        if self.box is not None:
            data["box"] = [round(value, 4) for value in self.box]
        return data


@dataclass(frozen=True)
class Detection:
    """A detector's answer. Either ``score`` in [0,1] (1 best), or ``None`` and a ``reason`` fit for a person."""

    score: float | None
    reason: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)
    findings: Sequence[Finding] = ()

    def __post_init__(self) -> None:
        if self.score is None and not self.reason:
            raise ValueError("a detection without a score must say why")
        if self.score is not None and not 0.0 <= self.score <= 1.0:
            raise ValueError(f"a detection's score must lie in [0,1], not {self.score}")


def absent(reason: str, **raw: Any) -> Detection:
    """The answer of a detector that could not measure."""
    return Detection(None, reason, raw)


class Detector(Protocol):
    """One detector a file. ``metric`` names the score it gives; ``unavailable()`` says why it cannot run here, or ``""``."""

    metric: str

    def unavailable(self) -> str: ...

    def detect(self, samples: Sequence[Sample]) -> Detection: ...


def falling(size: float, half: float, steep: float) -> float:
    """Score of a defect of ``size`` >= 0: 1 at none, 0.5 at ``half``, strictly falling."""
    return 1.0 / (1.0 + (max(0.0, size) / half) ** steep)
