"""The objects of a scene, painted once as premultiplied RGBA pictures.

A shape is a function ``(canvas, unit, colours)`` that draws on an RGBA canvas of SUPER times the final side; ``unit`` maps
coordinates in [-1, 1] (y down) to pixels. Shading and texture are added to all of them alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SUPER = 3  # drawn this much larger and averaged down: smooth edges
Colour = tuple[int, int, int]
Canvas = NDArray[np.uint8]


class Pen:
    """Draws in coordinates of [-1, 1] on a square RGBA canvas."""

    def __init__(self, side: int):
        self.side = side
        self.canvas: Canvas = np.zeros((side, side, 4), np.uint8)

    def _points(self, points: Sequence[tuple[float, float]]) -> NDArray[np.int32]:
        return np.array([[(x + 1) / 2 * self.side, (y + 1) / 2 * self.side] for x, y in points]).round().astype(np.int32)

    def polygon(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        """A filled polygon."""
        cv2.fillPoly(self.canvas, [self._points(points)], (*colour, 255))

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, angle: float = 0.0) -> None:
        """A filled ellipse; ``angle`` in degrees."""
        centre = tuple(int(v) for v in self._points([(x, y)])[0])
        axes = (max(1, round(rx / 2 * self.side)), max(1, round(ry / 2 * self.side)))
        cv2.ellipse(self.canvas, centre, axes, angle, 0, 360, (*colour, 255), -1)

    def line(self, start: tuple[float, float], end: tuple[float, float], width: float, colour: Colour) -> None:
        """A straight line; ``width`` in the same unit."""
        a, b = (tuple(int(v) for v in p) for p in self._points([start, end]))
        cv2.line(self.canvas, a, b, (*colour, 255), max(1, round(width / 2 * self.side)))


def tint(colour: Colour, factor: float) -> Colour:
    """Darker below 1, lighter above."""
    if factor <= 1:
        return (round(colour[0] * factor), round(colour[1] * factor), round(colour[2] * factor))
    part = factor - 1
    return (
        round(colour[0] + (255 - colour[0]) * part),
        round(colour[1] + (255 - colour[1]) * part),
        round(colour[2] + (255 - colour[2]) * part),
    )


def _balloon(pen: Pen, colour: Colour, other: Colour) -> None:
    pen.line((-0.2, 0.3), (-0.12, 0.72), 0.025, (92, 70, 52))
    pen.line((0.2, 0.3), (0.12, 0.72), 0.025, (92, 70, 52))
    pen.polygon([(-0.36, 0.1), (0.36, 0.1), (0.14, 0.5), (-0.14, 0.5)], tint(colour, 0.85))
    pen.ellipse(0, -0.25, 0.6, 0.62, colour)
    for x, rx in ((-0.3, 0.13), (0.3, 0.13)):
        pen.ellipse(x, -0.25, rx, 0.52, other)
    pen.ellipse(0, -0.25, 0.15, 0.62, other)
    pen.polygon([(-0.15, 0.7), (0.15, 0.7), (0.12, 0.92), (-0.12, 0.92)], (150, 106, 62))
    pen.line((-0.15, 0.72), (0.15, 0.72), 0.05, (112, 76, 44))


def _boat(pen: Pen, colour: Colour, other: Colour) -> None:
    pen.line((0, -0.85), (0, 0.42), 0.05, (98, 72, 50))
    pen.polygon([(0.06, -0.8), (0.06, 0.22), (0.66, 0.22)], (244, 240, 228))
    pen.polygon([(-0.06, -0.62), (-0.06, 0.22), (-0.5, 0.22)], other)
    pen.polygon([(-0.82, 0.38), (0.86, 0.38), (0.58, 0.78), (-0.6, 0.78)], colour)
    pen.polygon([(-0.82, 0.38), (0.86, 0.38), (0.80, 0.47), (-0.76, 0.47)], tint(colour, 1.45))
    for x in (-0.32, 0.02, 0.36):
        pen.ellipse(x, 0.6, 0.065, 0.065, tint(colour, 1.7))


def _bird(pen: Pen, colour: Colour, other: Colour) -> None:
    pen.polygon([(-0.12, -0.02), (-0.3, -0.78), (0.28, -0.12)], tint(colour, 0.78))
    pen.ellipse(0, 0.02, 0.5, 0.2, colour)
    pen.polygon([(-0.4, 0), (-0.9, -0.16), (-0.84, 0.16)], tint(colour, 0.85))
    pen.ellipse(0.46, -0.1, 0.17, 0.16, colour)
    pen.polygon([(0.58, -0.14), (0.84, -0.05), (0.58, 0.0)], (238, 168, 60))
    pen.polygon([(0.16, -0.06), (-0.38, 0.66), (-0.26, -0.02)], other)
    pen.ellipse(0.5, -0.14, 0.035, 0.035, (30, 30, 36))


def _fish(pen: Pen, colour: Colour, other: Colour) -> None:
    pen.polygon([(-0.45, 0), (-0.92, -0.42), (-0.8, 0), (-0.92, 0.42)], other)
    pen.polygon([(-0.2, -0.3), (0.1, -0.72), (0.3, -0.28)], other)
    pen.ellipse(0.1, 0, 0.66, 0.38, colour)
    for x, ry in ((-0.2, 0.31), (0.08, 0.37), (0.34, 0.32)):
        pen.ellipse(x, 0, 0.05, ry, other)
    pen.polygon([(0.02, 0.05), (-0.22, 0.42), (0.22, 0.16)], tint(other, 0.85))
    pen.ellipse(0.54, -0.08, 0.085, 0.085, (248, 248, 244))
    pen.ellipse(0.56, -0.08, 0.045, 0.045, (26, 28, 34))


def _ball(pen: Pen, colour: Colour, other: Colour) -> None:
    pen.ellipse(0, 0, 0.78, 0.78, (242, 238, 228))
    for k in range(3):
        a = 2 * math.pi * k / 3
        arc = [(0.78 * math.cos(a + d), 0.78 * math.sin(a + d)) for d in np.linspace(0, 1.05, 12)]
        pen.polygon([(0, 0), *arc], (colour, other, tint(colour, 0.6))[k])
    pen.ellipse(0, 0, 0.13, 0.13, (250, 246, 238))


def _lantern(pen: Pen, colour: Colour, other: Colour) -> None:
    pen.line((0, -0.95), (0, -0.6), 0.035, (70, 56, 48))
    pen.ellipse(0, 0, 0.56, 0.6, colour)
    for x, rx in ((0, 0.07), (-0.28, 0.05), (0.28, 0.05)):
        pen.ellipse(x, 0, rx, 0.57, tint(colour, 1.4))
    pen.ellipse(0, 0.05, 0.2, 0.32, (255, 228, 150))
    for y in (-0.58, 0.58):
        pen.polygon([(-0.26, y - 0.07), (0.26, y - 0.07), (0.26, y + 0.07), (-0.26, y + 0.07)], (120, 84, 50))
    pen.line((0, 0.64), (0, 0.95), 0.06, other)


def _kite(pen: Pen, colour: Colour, other: Colour) -> None:
    pen.line((0, 0.36), (-0.18, 0.95), 0.035, (98, 76, 60))
    for k, y in enumerate((0.56, 0.76)):
        x = -0.06 - 0.06 * k
        pen.polygon([(x - 0.14, y - 0.07), (x + 0.14, y + 0.07), (x - 0.14, y + 0.07), (x + 0.14, y - 0.07)], other)
    pen.polygon([(0, -0.92), (0.56, -0.24), (0, 0.42), (-0.56, -0.24)], colour)
    pen.polygon([(0, -0.92), (0.56, -0.24), (0, -0.24)], other)
    pen.polygon([(0, 0.42), (-0.56, -0.24), (0, -0.24)], other)
    pen.line((0, -0.92), (0, 0.42), 0.03, tint(colour, 0.6))


def _butterfly(pen: Pen, colour: Colour, other: Colour) -> None:
    for side in (-1, 1):
        pen.ellipse(side * 0.42, -0.26, 0.44, 0.4, colour, side * -30)
        pen.ellipse(side * 0.34, 0.34, 0.32, 0.32, tint(colour, 0.82), side * 30)
        pen.ellipse(side * 0.48, -0.3, 0.2, 0.18, other)
        pen.ellipse(side * 0.36, 0.36, 0.13, 0.13, tint(other, 1.3))
        pen.line((0, -0.35), (side * 0.2, -0.75), 0.03, (52, 44, 44))
    pen.ellipse(0, 0.02, 0.075, 0.5, (58, 48, 46))


def _planet(pen: Pen, colour: Colour, other: Colour) -> None:
    pen.ellipse(0, 0, 0.95, 0.24, tint(other, 0.9), -18)
    pen.ellipse(0, 0, 0.56, 0.56, colour)
    for y, ry in ((-0.26, 0.06), (0.02, 0.09), (0.3, 0.05)):
        pen.ellipse(0, y, math.sqrt(max(0.0, 0.31 - y * y)), ry, tint(colour, 0.78 if y else 1.3), -8)
    ring = [(0.95 * math.cos(a), 0.24 * math.sin(a)) for a in np.linspace(0.15, math.pi - 0.15, 24)]
    turn = math.radians(-18)
    front = [(x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)) for x, y in ring]
    for a, b in zip(front, front[1:]):
        pen.line(a, b, 0.07, tint(other, 1.25))


def _star(pen: Pen, colour: Colour, other: Colour) -> None:
    def ring(outer: float, inner: float) -> list[tuple[float, float]]:
        return [
            ((outer if k % 2 == 0 else inner) * math.sin(math.pi * k / 5), -(outer if k % 2 == 0 else inner) * math.cos(math.pi * k / 5))
            for k in range(10)
        ]

    pen.polygon(ring(0.9, 0.4), colour)
    pen.polygon(ring(0.55, 0.24), tint(other, 1.2))


def _car(pen: Pen, colour: Colour, other: Colour) -> None:
    pen.polygon([(-0.5, 0.02), (-0.3, -0.36), (0.28, -0.36), (0.54, 0.02)], tint(colour, 0.85))
    pen.polygon([(-0.4, 0.0), (-0.25, -0.28), (-0.02, -0.28), (-0.02, 0.0)], (184, 214, 226))
    pen.polygon([(0.05, 0.0), (0.05, -0.28), (0.24, -0.28), (0.42, 0.0)], (184, 214, 226))
    pen.polygon([(-0.86, 0.0), (0.82, 0.0), (0.9, 0.34), (-0.9, 0.34)], colour)
    pen.polygon([(-0.88, 0.14), (0.87, 0.14), (0.88, 0.21), (-0.89, 0.21)], other)
    for x in (-0.5, 0.5):
        pen.ellipse(x, 0.36, 0.22, 0.22, (46, 46, 54))
        pen.ellipse(x, 0.36, 0.1, 0.1, (196, 196, 202))


Shape = Callable[[Pen, Colour, Colour], None]
SHAPES: dict[str, Shape] = {
    "balloon": _balloon,
    "boat": _boat,
    "bird": _bird,
    "fish": _fish,
    "ball": _ball,
    "lantern": _lantern,
    "kite": _kite,
    "butterfly": _butterfly,
    "planet": _planet,
    "star": _star,
    "car": _car,
}
SYNONYMS = {
    "ship": "boat",
    "sailboat": "boat",
    "sail": "boat",
    "gull": "bird",
    "seagull": "bird",
    "sphere": "ball",
    "circle": "ball",
    "whale": "fish",
    "flower": "butterfly",
    "moon": "planet",
    "truck": "car",
    "van": "car",
    "lamp": "lantern",
    "balloons": "balloon",
}


def shape_for_word(word: str) -> str | None:
    """The shape a prompt's word asks for, or ``None``."""
    if word in SHAPES:
        return word
    if word.endswith("s") and word[:-1] in SHAPES:
        return word[:-1]
    return SYNONYMS.get(word)


def draw_sprite(shape: Shape, side: int, colour: Colour, rng: np.random.Generator) -> Canvas:
    """Paints ``shape``; shape (side, side, 4), RGB premultiplied by alpha."""
    pen = Pen(side * SUPER)
    hue = np.roll(np.array(colour), int(rng.integers(1, 3)))
    other = tint((int(hue[0]), int(hue[1]), int(hue[2])), 1.35) if rng.random() < 0.5 else (246, 232, 196)
    shape(pen, colour, other)
    small = cv2.resize(pen.canvas, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    ys, xs = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    light = 1.08 - 0.30 * np.clip(0.5 * xs + 0.75 * ys, -0.7, 0.9)  # lit from above left
    cells = max(4, side // 5)
    weave = cv2.resize(rng.standard_normal((cells, cells)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    stripes = np.sin(xs * 26 + 3 * ys) * np.sin(ys * 31 - 2 * xs)
    light += 0.045 * weave + 0.045 * stripes
    # The canvas was averaged with its empty part black, so its colours are premultiplied already.
    small[..., :3] = np.minimum(small[..., :3] * light[..., None], small[..., 3:4])
    return np.clip(small, 0, 255).astype(np.uint8)
