"""Puts the defects of a clip into its pixels. Every defect is visible, and each raises its own measurement.

Order matters and follows a camera's: what the world shows (frozen), the lens (blur), the film (colour, grain), the
lamp (flicker), the codec (blocks), and last a broken decoder (mosaic).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eva_sim.surface import Defects

Picture = NDArray[np.uint8]
VISIBLE = 0.02  # below this level a defect is not drawn at all


class Damage:
    """Applies ``levels`` frame by frame, in order. Holds little: nothing of the clip is kept but the frame at hand."""

    def __init__(self, levels: Defects, width: int, height: int, frames: int, rng: np.random.Generator):
        self.levels, self.width, self.height, self.frames = levels, width, height, frames
        self._rng = rng
        self._unit = max(width, height) / 480  # defects keep their look at any size
        phase = rng.uniform(0, 2 * np.pi)
        steps = np.arange(frames)
        beat = np.where(steps % 2 == 0, 1.0, -1.0) * 0.55 + 0.5 * np.sin(steps * 2.4 + phase)
        self._lamp = beat + 0.35 * rng.standard_normal(frames)
        self._freeze_at = float(rng.uniform(0.1, 0.3))
        self._table = self._colour_table()
        self._grain = self._grain_pool() if levels.noise > VISIBLE or levels.broken > VISIBLE else None

    def moment(self, index: int) -> float:
        """Which moment of the scene, in [0, 1], frame ``index`` shows: frozen clips stutter, slow down and stop."""
        t = index / max(1, self.frames - 1)
        level = self.levels.frozen
        if level <= VISIBLE:
            return t
        hold = 1 + round(level * 5)  # frames shown more than once: a stutter
        held = (index // hold * hold) / max(1, self.frames - 1)
        return self._freeze_at + (held - self._freeze_at) * max(0.0, 1 - level) ** 1.4

    def apply(self, frame: Picture, index: int) -> Picture:
        """The damaged frame, a copy; ``frame`` is not changed."""
        levels = self.levels
        out: Any = frame
        if levels.blur > VISIBLE:
            out = cv2.GaussianBlur(out, (0, 0), (0.35 + 4.2 * levels.blur**1.2) * self._unit)
        if self._table is not None:
            out = self._recolour(out)
        if levels.noise > VISIBLE:
            out = self._add_grain(out)
        if levels.flicker > VISIBLE:
            out = self._flicker(out, index)
        if levels.blockiness > VISIBLE:
            out = self._block(out)
        if levels.broken > VISIBLE:
            out = self._shatter(out, index)
        return np.array(out, np.uint8) if out is frame else np.ascontiguousarray(out, np.uint8)

    # ------------------------------------------------------------------ colour
    def _colour_table(self) -> NDArray[np.uint8] | None:
        """Tone curve: harder and brighter with saturation (burnt), flatter and lifted when washed out."""
        burn, wash = self.levels.saturation, self.levels.washed
        if burn <= VISIBLE and wash <= VISIBLE:
            return None
        x = np.arange(256, dtype=np.float32) / 255
        curve = (x - 0.48) * (1 + 1.5 * burn) + 0.48 + 0.07 * burn
        curve = curve * (1 - 0.5 * wash) + 0.34 * wash
        return np.clip(curve * 255, 0, 255).astype(np.uint8)

    def _recolour(self, picture: Any) -> Any:
        burn, wash = self.levels.saturation, self.levels.washed
        grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        strength = (1 + 1.9 * burn) * (1 - 0.72 * wash)
        coloured = cv2.addWeighted(picture, strength, grey, 1 - strength, 0)
        return coloured if self._table is None else cv2.LUT(coloured, self._table)

    # ------------------------------------------------------------------ grain
    def _grain_pool(self) -> NDArray[np.int8]:
        """A noise picture larger than the frame; each frame takes another crop of it, which is fast and looks new."""
        height, width = self.height + 48, self.width + 48
        luma = self._rng.standard_normal((height, width, 1)).astype(np.float32)
        chroma = self._rng.standard_normal((height // 2 + 1, width // 2 + 1, 3)).astype(np.float32)
        wide: Any = cv2.resize(chroma, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.clip((luma * 0.9 + wide * 0.5) * 40, -127, 127).astype(np.int8)

    def _crop(self) -> NDArray[np.int16]:
        assert self._grain is not None
        x, y = (int(v) for v in self._rng.integers(0, 48, 2))
        crop = self._grain[y : y + self.height, x : x + self.width]
        if self._rng.random() < 0.5:
            crop = crop[:, ::-1]
        return np.ascontiguousarray(crop, np.int16)

    def _add_grain(self, picture: Any) -> Any:
        return cv2.add(picture, self._crop(), dtype=cv2.CV_8U) if self.levels.noise > 0.999 else self._weighted(picture, self.levels.noise)

    def _weighted(self, picture: Any, level: float) -> Any:
        return np.clip(picture.astype(np.int16) + (self._crop() * level).astype(np.int16), 0, 255).astype(np.uint8)

    # ------------------------------------------------------------------ lamp
    def _flicker(self, picture: Any, index: int) -> Any:
        swing = float(self._lamp[index]) * self.levels.flicker
        return cv2.convertScaleAbs(picture, alpha=max(0.05, 1 + 0.20 * swing), beta=max(0.0, 7 * swing))

    # ------------------------------------------------------------------ codec
    def _block(self, picture: Any) -> Any:
        """Real quantisation of 8x8 blocks: JPEG there and back, at half size when it is bad, so that blocks grow."""
        level = self.levels.blockiness
        quality = round(26 * (1 - level) ** 1.6) + 3
        source = picture
        if level > 0.55:
            source = cv2.resize(picture, (max(8, self.width // 2), max(8, self.height // 2)), interpolation=cv2.INTER_AREA)
            quality += 4
        ok, data = cv2.imencode(".jpg", source, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not ok:
            raise RuntimeError(f"OpenCV could not code a picture of {source.shape} as JPEG")
        again: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if again.shape[:2] != (self.height, self.width):
            again = cv2.resize(again, (self.width, self.height), interpolation=cv2.INTER_NEAREST)
        share = min(1.0, 0.6 + level)
        return cv2.addWeighted(again, share, picture, 1 - share, 0)

    # ------------------------------------------------------------------ broken decoder
    def _shatter(self, picture: Any, index: int) -> Any:
        """A mosaic of misplaced tiles in wrong colours, with strong noise, jumping every few frames."""
        level = self.levels.broken
        side = max(8, round(24 * self._unit) // 8 * 8)
        rows, columns = self.height // side + 1, self.width // side + 1
        padded = cv2.copyMakeBorder(picture, 0, rows * side - self.height, 0, columns * side - self.width, cv2.BORDER_REFLECT_101)
        tiles = padded.reshape(rows, side, columns, side, 3).transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3).copy()
        order = np.random.default_rng([index // 3, int(self._lamp[0] * 1e6) & 0xFFFF])
        count = max(1, int(len(tiles) * 0.8 * level))
        chosen = order.choice(len(tiles), size=count, replace=False)
        tint = order.integers(0, 256, (count, 1, 1, 3)).astype(np.float32)
        moved = tiles[order.permutation(chosen)][..., ::-1].astype(np.float32)
        tiles[chosen] = (moved * 0.55 + tint * 0.45).astype(np.uint8)
        mosaic = tiles.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4).reshape(rows * side, columns * side, 3)
        return self._weighted(mosaic[: self.height, : self.width], 0.8 * level)
