"""A moving, textured scene drawn from a prompt and a seed: layers with parallax, several objects, a slow camera.

Everything costly (textures, sprites) is painted once per clip; a frame is a handful of affine warps. Pictures are
``uint8`` arrays of shape (height, width, 3), RGB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eva_sim.sprites import SHAPES, draw_sprite, shape_for_word
from eva_sim.surface import stable_rng

Picture = NDArray[np.uint8]

MARGIN = 1.35  # layers are this much larger than the frame, so that the camera has room to move

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 62, 52),
    "crimson": (176, 32, 58),
    "orange": (236, 132, 44),
    "gold": (226, 178, 62),
    "golden": (226, 178, 62),
    "yellow": (242, 208, 74),
    "green": (82, 158, 84),
    "emerald": (36, 150, 106),
    "teal": (40, 150, 150),
    "cyan": (86, 196, 212),
    "blue": (62, 112, 202),
    "navy": (40, 58, 120),
    "purple": (132, 82, 178),
    "violet": (150, 96, 206),
    "pink": (236, 132, 170),
    "white": (238, 236, 228),
    "black": (48, 48, 56),
    "gray": (140, 142, 148),
    "grey": (140, 142, 148),
    "brown": (140, 94, 60),
}


@dataclass(frozen=True)
class Theme:
    """Colours of a place: sky at the top and at the horizon, two hill layers, the ground."""

    name: str
    words: tuple[str, ...]
    sky: tuple[tuple[int, int, int], tuple[int, int, int]]
    hills: tuple[tuple[int, int, int], tuple[int, int, int]]
    ground: tuple[int, int, int]
    shapes: tuple[str, ...]
    water: bool = False


THEMES: tuple[Theme, ...] = (
    Theme(
        "coast",
        ("sea", "ocean", "beach", "boat", "ship", "water", "wave", "waves", "lake", "harbor", "harbour", "river", "sail"),
        ((86, 146, 206), (242, 214, 182)),
        ((120, 140, 168), (84, 124, 116)),
        (44, 108, 142),
        ("boat", "bird", "balloon"),
        True,
    ),
    Theme(
        "valley",
        ("forest", "tree", "trees", "mountain", "valley", "field", "meadow", "garden", "grass", "hill", "hills", "park", "spring"),
        ((104, 168, 222), (230, 236, 220)),
        ((104, 138, 150), (84, 132, 80)),
        (112, 156, 72),
        ("balloon", "kite", "butterfly", "ball"),
    ),
    Theme(
        "dusk",
        ("city", "street", "night", "neon", "lantern", "lanterns", "evening", "dusk", "sunset", "town", "subway"),
        ((52, 46, 98), (238, 140, 108)),
        ((84, 62, 110), (54, 46, 84)),
        (44, 42, 66),
        ("lantern", "balloon", "kite", "bird"),
    ),
    Theme(
        "desert",
        ("desert", "sand", "dune", "dunes", "canyon", "camel", "sun", "dry", "car", "road"),
        ((92, 158, 204), (248, 220, 172)),
        ((196, 132, 96), (214, 158, 100)),
        (226, 182, 120),
        ("balloon", "kite", "ball", "bird"),
    ),
    Theme(
        "reef",
        ("underwater", "reef", "fish", "coral", "aquarium", "deep", "whale", "turtle"),
        ((22, 92, 142), (82, 190, 198)),
        ((40, 110, 140), (64, 98, 120)),
        (200, 176, 128),
        ("fish", "fish", "ball"),
    ),
    Theme(
        "space",
        ("space", "star", "stars", "planet", "galaxy", "moon", "astronaut", "cosmic", "rocket"),
        ((18, 18, 44), (74, 44, 98)),
        ((62, 54, 104), (52, 42, 78)),
        (78, 66, 96),
        ("planet", "star", "lantern"),
    ),
)


@dataclass(frozen=True)
class _Actor:
    sprite: Picture  # (side, side, 4): RGB premultiplied by alpha, and alpha
    size: float  # of the frame's shorter side
    start: tuple[float, float]  # in frame widths and heights
    travel: tuple[float, float]  # over the clip
    bob: tuple[float, float, float]  # height, cycles over the clip, phase
    spin: tuple[float, float]  # swing in degrees, phase
    flip: bool


def _fractal(rng: np.random.Generator, height: int, width: int, coarsest: int, octaves: int, stretch: float = 1.0) -> NDArray[np.float32]:
    """Fractal noise, about unit deviation, shape (height, width); ``coarsest``: cells across at the first octave."""
    total = np.zeros((height, width), np.float32)
    amplitude, cells = 1.0, float(coarsest)
    for _ in range(octaves):
        rows = max(2, round(cells * height / width * stretch))
        grid = rng.standard_normal((rows, max(2, round(cells)))).astype(np.float32)
        total += amplitude * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        amplitude, cells = amplitude * 0.62, cells * 2
    return total / max(float(total.std()), 1e-6)


def _shade(colour: tuple[int, int, int], light: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(colour, np.float32) * light[..., None]


class Scene:
    """One clip's world. ``frame(t)`` draws the moment t in [0, 1]. Same arguments, same pictures."""

    def __init__(self, prompt: str, seed: int, width: int, height: int, seconds: float = 2.0):
        self.width, self.height = width, height
        rng = stable_rng("scene", prompt.strip().lower(), seed)
        words = "".join(c if c.isalnum() else " " for c in prompt.lower()).split()
        self.theme = self._choose_theme(words, rng)
        self._big = (round(width * MARGIN), round(height * MARGIN))
        self._tone = rng.uniform(-14, 14, 3).astype(np.float32)
        self._layers = self._paint_layers(rng)
        self._speed = min(1.6, max(0.5, seconds / 2.0))  # longer clips travel further, so that the pace stays the same
        if any(w in words for w in ("slow", "slowly", "gently", "calm")):
            self._speed *= 0.7
        if any(w in words for w in ("fast", "quickly", "racing", "running")):
            self._speed *= 1.4
        self._pan = (float(rng.choice([-1, 1])) * rng.uniform(0.16, 0.24) * self._speed, rng.uniform(-0.03, 0.03))
        self._zoom = float(rng.choice([-1, 1])) * rng.uniform(0.03, 0.08)
        self._actors = self._cast(words, rng)

    @staticmethod
    def _choose_theme(words: list[str], rng: np.random.Generator) -> Theme:
        known = [word if any(word in theme.words for theme in THEMES) else word.removesuffix("s") for word in words]
        scores = [sum(word in theme.words for word in known) for theme in THEMES]
        pick = int(rng.integers(len(THEMES) - 2))  # without a hint: any of the plain places
        return THEMES[int(np.argmax(scores))] if max(scores) else THEMES[pick]

    # ------------------------------------------------------------------ painting once
    def _paint_layers(self, rng: np.random.Generator) -> list[tuple[Picture, Picture | None, float]]:
        """Far to near: (picture, coverage or None for all, parallax in [0, 1])."""
        width, height = self._big
        theme = self.theme
        horizon = float(rng.uniform(0.52, 0.62)) * height
        sky = self._paint_sky(rng, horizon)
        layers: list[tuple[Picture, Picture | None, float]] = [(sky, None, 0.25)]
        for index, (colour, parallax) in enumerate(zip(theme.hills, (0.45, 0.7))):
            base = horizon - height * (0.10 - 0.05 * index)
            profile = _fractal(rng, 1, width, 4 + 3 * index, 5)[0] * height * (0.055 + 0.015 * index)
            line = base - profile
            layers.append((*self._paint_land(rng, colour, line, 26 + 14 * index), parallax))
        line = horizon + height * 0.09 + _fractal(rng, 1, width, 3, 2)[0] * (0.0 if theme.water else height * 0.018)
        layers.append((*self._paint_land(rng, theme.ground, line, 40, water=theme.water), 1.0))
        return layers

    def _paint_sky(self, rng: np.random.Generator, horizon: float) -> Picture:
        width, height = self._big
        theme = self.theme
        fall = np.clip(np.arange(height, dtype=np.float32) / horizon, 0, 1)[:, None, None]
        top, low = np.asarray(theme.sky[0], np.float32), np.asarray(theme.sky[1], np.float32)
        picture = np.repeat(top * (1 - fall) + low * fall, width, axis=1) + self._tone
        ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
        sun = (rng.uniform(0.2, 0.8) * width, rng.uniform(0.14, 0.34) * height)
        distance = np.hypot(xs - sun[0], ys - sun[1]) / height
        glow = np.exp(-((distance / 0.16) ** 2)) * 0.45 + np.clip((0.055 - distance) * 60 * height / 300, 0, 1) * 0.7
        if theme.name == "space":
            stars = (rng.random((height, width)) > 0.9975).astype(np.float32) * rng.uniform(0.5, 1.0, (height, width)).astype(np.float32)
            stars = cv2.GaussianBlur(stars, (0, 0), max(0.6, height / 420)) * 3.2
            picture += (np.clip(stars, 0, 1) * 190)[..., None]
            cloud = np.clip(_fractal(rng, height, width, 3, 5), 0, 3) * 20
            picture += cloud[..., None] * np.asarray((0.9, 0.5, 1.1), np.float32)
        else:
            cloud = np.clip(_fractal(rng, height, width, 4, 6, stretch=2.2) * 0.55 + 0.1, 0, 1) * (1 - 0.5 * fall[..., 0])
            white = np.asarray((252, 248, 244), np.float32) if theme.name != "reef" else np.asarray((150, 226, 224), np.float32)
            amount = (cloud * 0.62)[..., None]
            picture = picture * (1 - amount) + white * amount
        warm = np.asarray((255, 246, 214), np.float32)
        picture = picture * (1 - glow[..., None]) + warm * glow[..., None]
        return np.clip(picture, 0, 255).astype(np.uint8)

    def _paint_land(
        self, rng: np.random.Generator, colour: tuple[int, int, int], line: NDArray[np.float32], cells: int, water: bool = False
    ) -> tuple[Picture, Picture]:
        """A land (or sea) layer below ``line`` (a height per column) and its coverage, both ``uint8``."""
        width, height = self._big
        rows = np.arange(height, dtype=np.float32)[:, None]
        below = rows - line[None, :]
        texture = _fractal(rng, height, width, cells // 3, 5, stretch=5.0 if water else 1.4)
        fine = rng.standard_normal((height // 2 + 1, width // 2 + 1)).astype(np.float32)
        coarse: Any = cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR)
        depth = np.clip(below / (height * 0.45), 0, 1)
        light = 1.04 + 0.12 * texture + 0.05 * coarse - 0.16 * depth if not water else 1.0 + 0.17 * texture + 0.03 * coarse - 0.1 * depth
        picture = _shade(colour, light.astype(np.float32)) + self._tone
        if water:
            glint = np.clip(texture - 1.1, 0, 1.5)[..., None] * np.asarray((120, 122, 112), np.float32)
            picture += glint
        edge = np.exp(-np.clip(below, 0, None) / (height * 0.02))[..., None]
        picture += edge * 22
        cover = np.clip(below / max(1.0, height / 260) + 0.5, 0, 1) * 255
        return np.clip(picture, 0, 255).astype(np.uint8), cover.astype(np.uint8)

    def _cast(self, words: list[str], rng: np.random.Generator) -> list[_Actor]:
        asked = [shape for shape in map(shape_for_word, words) if shape]
        colours = [COLOURS[word] for word in words if word in COLOURS]
        count = int(rng.integers(4, 7))
        short = min(self.width, self.height)
        actors = []
        for index in range(count):
            if index < len(asked):
                shape = asked[index]
            elif asked and index < 3:
                shape = asked[0]
            else:
                shape = str(rng.choice(self.theme.shapes))
            if index < len(colours):
                colour = colours[index]
            else:
                pool = list(COLOURS.values())[:15]
                colour = pool[int(rng.integers(len(pool)))]
            size = (0.40 if index == 0 else float(rng.uniform(0.17, 0.30))) * (1.1 if shape == "boat" else 1.0)
            side = max(12, round(size * short * 1.3))
            right = bool(rng.random() < 0.5)
            span = float(rng.uniform(0.28, 0.5)) * self._speed * (1 if right else -1)
            lane = (0.28, 0.42, 0.2, 0.55, 0.35, 0.62)[index % 6]
            if shape == "boat" and self.theme.water:
                lane = 0.66 + 0.07 * (index % 3)
            elif shape in ("ball", "car"):
                lane = 0.74
            middle = ((index * 0.618 + 0.45) % 1.0) * 0.7 + 0.15
            actors.append(
                _Actor(
                    sprite=draw_sprite(SHAPES[shape], side, colour, rng),
                    size=size,
                    start=(middle - span / 2, lane + float(rng.uniform(-0.05, 0.05))),
                    travel=(span, float(rng.uniform(-0.06, 0.06)) * (0.2 if shape in ("boat", "ball") else 1.0)),
                    bob=(float(rng.uniform(0.008, 0.03)), float(rng.uniform(0.8, 2.0)) * self._speed, float(rng.uniform(0, 6.28))),
                    spin=(360.0 * span if shape == "ball" else float(rng.uniform(3, 9)), float(rng.uniform(0, 6.28))),
                    flip=not right,
                )
            )
        return sorted(actors, key=lambda actor: actor.size)

    # ------------------------------------------------------------------ drawing a moment
    def frame(self, t: float) -> Picture:
        """The picture at moment ``t`` in [0, 1], shape (height, width, 3)."""
        zoom = 1.08 + self._zoom * (t - 0.5) * 2
        shift = (self._pan[0] * (t - 0.5), self._pan[1] * (t - 0.5))
        out: Picture | None = None
        size = (self.width, self.height)
        for picture, cover, parallax in self._layers:
            matrix = self._layer_matrix(zoom, shift, parallax)
            warped = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            if cover is None or out is None:
                out = np.asarray(warped, np.uint8)
                continue
            mask = cv2.warpAffine(cover, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            out = _blend(out, np.asarray(warped, np.uint8), np.asarray(mask, np.uint8))
        assert out is not None
        for actor in self._actors:
            self._draw_actor(out, actor, t, zoom, shift)
        return out

    def _layer_matrix(self, zoom: float, shift: tuple[float, float], parallax: float) -> NDArray[np.float64]:
        scale = 1 + (zoom - 1) * parallax
        big_w, big_h = self._big
        dx = self.width / 2 - scale * big_w / 2 + shift[0] * self.width * parallax
        dy = self.height / 2 - scale * big_h / 2 + shift[1] * self.height * parallax
        return np.array([[scale, 0, dx], [0, scale, dy]])

    def _draw_actor(self, out: Picture, actor: _Actor, t: float, zoom: float, shift: tuple[float, float]) -> None:
        """Warps the sprite to its place and mixes it into ``out`` in place."""
        x = actor.start[0] + actor.travel[0] * t + shift[0]
        y = actor.start[1] + actor.travel[1] * t + shift[1] + actor.bob[0] * math.sin(2 * math.pi * actor.bob[1] * t + actor.bob[2])
        cx, cy = (0.5 + (x - 0.5) * zoom) * self.width, (0.5 + (y - 0.5) * zoom) * self.height
        side = actor.sprite.shape[0]
        scale = actor.size * min(self.width, self.height) / side * 1.25 * zoom
        half = side * scale * 0.75 + 2
        x0, x1 = max(0, int(cx - half)), min(self.width, int(cx + half) + 1)
        y0, y1 = max(0, int(cy - half)), min(self.height, int(cy + half) + 1)
        if x0 >= x1 or y0 >= y1:
            return
        swing, phase = actor.spin
        angle = swing * t if abs(swing) > 45 else swing * math.sin(2 * math.pi * t * self._speed + phase)
        matrix = cv2.getRotationMatrix2D((side / 2, side / 2), -angle, scale)
        if actor.flip:
            matrix = matrix @ np.array([[-1, 0, side], [0, 1, 0], [0, 0, 1.0]])
        matrix[:, 2] += (cx - side / 2 - x0, cy - side / 2 - y0)
        warped = cv2.warpAffine(actor.sprite, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0, 0))
        place = out[y0:y1, x0:x1]
        keep = cv2.merge([255 - warped[..., 3]] * 3)
        place[:] = cv2.add(cv2.multiply(place, keep, scale=1 / 255), np.ascontiguousarray(warped[..., :3]))


def _blend(back: Picture, front: Picture, cover: Picture) -> Picture:
    """``front`` over ``back`` by coverage (``uint8``, one channel)."""
    mask = cv2.merge([cover] * 3)
    return np.asarray(cv2.add(cv2.multiply(front, mask, scale=1 / 255), cv2.multiply(back, 255 - mask, scale=1 / 255)), np.uint8)
