"""Cars, trucks, buses, trailers and construction vehicles, built from a drawn length, width and height."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception3d.simulation.render.materials import (
    BUS_BODY,
    CABIN,
    CARGO,
    GLASS,
    HEAD_LAMP,
    MATTE,
    METAL,
    PAINT,
    PLATE,
    RUBBER,
    TAIL_LAMP,
)
from perception3d.simulation.render.primitives import Primitives, ShapeBuilder, about_y

DARK = (0.03, 0.03, 0.035)
TYRE = (0.025, 0.025, 0.025)
HUB = (0.35, 0.35, 0.37)
WHITE_LAMP = (0.9, 0.9, 0.85)
RED_LAMP = (0.65, 0.02, 0.02)
AMBER = (0.75, 0.3, 0.02)
YELLOW = (0.75, 0.42, 0.03)

_PAINTS = np.array(
    [
        (0.75, 0.75, 0.75), (0.72, 0.72, 0.70), (0.45, 0.46, 0.48), (0.25, 0.26, 0.27), (0.05, 0.05, 0.055),
        (0.02, 0.02, 0.025), (0.03, 0.07, 0.28), (0.06, 0.17, 0.40), (0.45, 0.03, 0.03), (0.25, 0.02, 0.03),
        (0.03, 0.16, 0.08), (0.40, 0.33, 0.22), (0.70, 0.45, 0.03), (0.60, 0.18, 0.03), (0.20, 0.35, 0.38),
    ]
)  # fmt: skip
_PAINT_ODDS = np.array([16, 8, 13, 10, 10, 9, 6, 6, 6, 4, 3, 4, 3, 2, 3], float)


def paint(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draws a car colour, linear RGB; white, grey and black are the most frequent."""
    base = _PAINTS[rng.choice(len(_PAINTS), p=_PAINT_ODDS / _PAINT_ODDS.sum())]
    return tuple(np.clip(base * rng.uniform(0.85, 1.15, 3), 0.01, 0.85))


def _wheels(shape: ShapeBuilder, places: list[float], width: float, diameter: float, thickness: float = 0.22) -> None:
    for x in places:
        for side in (-1, 1):
            y = side * (width / 2 - thickness / 2)
            shape.wheel((x, y, diameter / 2), diameter, thickness, TYRE, RUBBER)
            shape.wheel((x, y + side * 0.005, diameter / 2), 0.55 * diameter, thickness, HUB, METAL)


def _lamps(shape: ShapeBuilder, length: float, width: float, z: float, size: tuple[float, float, float]) -> None:
    for side in (-1, 1):
        y = side * (width / 2 - size[1] / 2 - 0.03)
        shape.box((length / 2 - size[0] / 2 + 0.012, y, z), size, WHITE_LAMP, HEAD_LAMP)
        shape.box((-length / 2 + size[0] / 2 - 0.012, y, z + 0.08), size, RED_LAMP, TAIL_LAMP)


def _plates(shape: ShapeBuilder, length: float, z: float) -> None:
    for end in (-1, 1):
        shape.box((end * (length / 2 + 0.004), 0, z), (0.02, 0.5, 0.12), (0.75, 0.75, 0.7), PLATE)


@dataclass(frozen=True)
class _BodyStyle:
    """Shares of a light vehicle: height of the belt line over its height; start and end of the cabin over the length
    from the nose; lean of windscreen and rear window.
    """

    belt: float
    cabin_start: float
    cabin_end: float
    windscreen: float
    rear_window: float


_STYLES = {
    'sedan': _BodyStyle(0.60, 0.26, 0.84, 0.42, 0.34),
    'hatch': _BodyStyle(0.6, 0.24, 0.985, 0.36, 0.14),
    'estate': _BodyStyle(0.6, 0.25, 0.985, 0.30, 0.10),
    'suv': _BodyStyle(0.6, 0.25, 0.985, 0.28, 0.10),
    'van': _BodyStyle(0.55, 0.14, 0.99, 0.22, 0.02),
    'pickup': _BodyStyle(0.58, 0.25, 0.62, 0.36, 0.06),
}


def car(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """A sedan, hatchback, estate, SUV, van or pick-up of the given outer size in metres; x is forward."""
    kind = rng.choice(['sedan', 'hatch', 'estate', 'suv', 'van', 'pickup'], p=[0.33, 0.24, 0.12, 0.2, 0.07, 0.04])
    return _light_vehicle(rng, str(kind), length, width, height)


def van(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """A delivery van of the given outer size in metres; x is forward."""
    return _light_vehicle(rng, 'van', length, width, height)


def _light_vehicle(rng: np.random.Generator, kind: str, length: float, width: float, height: float) -> Primitives:
    color = paint(rng)
    shape = ShapeBuilder()
    wheel = float(np.clip(0.38 * height + rng.normal(0, 0.02), 0.56, 0.78))
    style = _STYLES[kind]
    belt = height * style.belt
    clear = 0.12 * height
    body = width - 0.03
    shape.box((0, 0, (clear + belt) / 2 + 0.02), (length, body, belt - clear - 0.04), color, PAINT, (0.04, 0.03, 0.06))
    shape.box((0, 0, clear + 0.1), (length + 0.02, body - 0.06, 0.2), DARK, MATTE)
    start, end = style.cabin_start, style.cabin_end
    middle = length * (0.5 - (start + end) / 2)
    size = (length * (end - start), body - 0.04, height - belt + 0.03)
    shape.box((middle, 0, (height + belt) / 2 - 0.015), size, color, CABIN, (style.windscreen, style.rear_window, 0.14))
    if kind == 'pickup':
        for side in (-1, 1):
            shape.box((-0.31 * length, side * (body / 2 - 0.05), belt + 0.08), (0.36 * length, 0.08, 0.2), color, PAINT)
    _wheels(shape, [0.31 * length, -0.30 * length], width, wheel)
    _lamps(shape, length, width, 0.72 * belt, (0.10, 0.36, 0.14))
    shape.box((length / 2 + 0.004, 0, 0.55 * belt), (0.03, 0.5 * width, 0.16), DARK, MATTE)
    _plates(shape, length, 0.42 * belt)
    for side in (-1, 1):
        shape.box((0.2 * length, side * (width / 2 + 0.0), belt + 0.06), (0.12, 0.16, 0.11), color, PAINT)
    return shape.build()


def _cab(shape: ShapeBuilder, front: float, length: float, width: float, height: float, color) -> None:
    """A truck's cab whose nose is at x = front."""
    x = front - length / 2
    shape.box((x, 0, 0.28 * height + 0.25), (length, width, 0.56 * height - 0.3), color, PAINT, (0.02, 0, 0.02))
    shape.box((x, 0, 0.77 * height), (length, width, 0.47 * height), color, CABIN, (0.14, 0.0, 0.06))
    shape.box((front, 0, 0.3 * height), (0.06, 0.7 * width, 0.2 * height), DARK, MATTE)
    for side in (-1, 1):
        y = side * (width / 2 - 0.28)
        shape.box((front, y, 0.2 * height + 0.15), (0.06, 0.4, 0.18), WHITE_LAMP, HEAD_LAMP)
        shape.box((front - 0.25, side * (width / 2 + 0.06), 0.75 * height), (0.08, 0.14, 0.45), DARK, MATTE)


def truck(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """A box truck, flatbed, tipper or tractor unit of the given outer size in metres; x is forward."""
    kind = rng.choice(['box', 'flat', 'tipper'], p=[0.6, 0.2, 0.2])
    color, load = paint(rng), paint(rng) if rng.random() < 0.5 else (0.72, 0.72, 0.7)
    shape = ShapeBuilder()
    cab_length = float(np.clip(0.28 * length, 1.5, 2.3))
    cab_height = min(height, 2.7) if kind == 'box' else height
    inner = width - 0.2
    _cab(shape, length / 2, cab_length, inner, cab_height, color)
    wheel = 0.95 if length > 5.8 else 0.78
    bed = wheel + 0.12
    rear = length - cab_length - 0.12
    x = -length / 2 + rear / 2
    shape.box((x, 0, bed - 0.1), (rear, 0.5 * width, 0.25), DARK, MATTE)
    if kind == 'box':
        shape.box((x, 0, (bed + height) / 2), (rear, width - 0.06, height - bed), load, CARGO)
    elif kind == 'flat':
        shape.box((x, 0, bed + 0.05), (rear, width - 0.06, 0.14), DARK, METAL)
        pile = (height - bed) * rng.uniform(0.4, 0.85)
        shape.box((x - 0.1 * rear, 0, bed + pile / 2), (0.7 * rear, 0.8 * width, pile), (0.35, 0.25, 0.14), MATTE)
        shape.box((x + rear / 2 - 0.05, 0, bed + 0.5), (0.08, width - 0.1, 1.0), DARK, METAL)
    else:
        top = bed + 0.75 * (height - bed)
        shape.box((x, 0, (bed + top) / 2), (rear, width - 0.06, top - bed), load, METAL, (-0.03, -0.05, -0.04))
        shape.ellipsoid((x, 0, top), (0.9 * rear, 0.85 * width, 0.5), (0.30, 0.24, 0.17), MATTE)
    _rear_end(shape, -length / 2, width, bed)
    back = [-length / 2 + 0.22 * rear] + ([-length / 2 + 0.22 * rear + wheel * 1.1] if length > 8 else [])
    _wheels(shape, [length / 2 - 0.55 * cab_length, *back], width - 0.05, wheel, 0.32)
    return shape.build()


def _rear_end(shape: ShapeBuilder, x: float, width: float, z: float) -> None:
    """Bumper, lights and warning plate at a truck's back end."""
    shape.box((x + 0.03, 0, z - 0.3), (0.08, 0.9 * width, 0.14), (0.6, 0.05, 0.03), MATTE)
    for side in (-1, 1):
        y = side * (0.38 * width)
        shape.box((x + 0.01, y, z - 0.12), (0.06, 0.34, 0.16), RED_LAMP, TAIL_LAMP)
    shape.box((x + 0.005, 0, z - 0.12), (0.03, 0.5, 0.12), (0.75, 0.65, 0.1), PLATE)


def bus(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """A city bus or coach of the given outer size in metres; x is forward."""
    color = paint(rng)
    shape = ShapeBuilder()
    shape.box((0, 0, 0.3 + (height - 0.3) / 2), (length, width - 0.1, height - 0.3), color, BUS_BODY, (0.01, 0.0, 0.02))
    shape.box((0, 0, 0.55), (length - 0.1, width - 0.06, 0.35), tuple(0.5 * c for c in color), PAINT)
    shape.box((length / 2 + 0.005, 0, height - 0.35), (0.03, 0.6 * width, 0.28), (0.6, 0.35, 0.05), HEAD_LAMP)
    if rng.random() < 0.6:
        shape.box((-0.1 * length, 0, height - 0.08), (0.3 * length, 0.6 * width, 0.2), (0.6, 0.6, 0.6), MATTE)
    _wheels(shape, [0.32 * length, -0.28 * length], width - 0.06, 0.98, 0.3)
    _lamps(shape, length, width - 0.1, 0.85, (0.08, 0.4, 0.22))
    _plates(shape, length, 0.6)
    for side in (-1, 1):
        shape.box((length / 2 - 0.05, side * (width / 2 - 0.03), 0.75 * height), (0.15, 0.2, 0.4), DARK, MATTE)
    return shape.build()


def tram(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """A tram of two cars with a bellows between them and a pantograph, of the given outer size in metres."""
    color = paint(rng)
    shape = ShapeBuilder()
    half, top = (length - 0.7) / 2, height - 0.35
    for end in (-1, 1):
        x, lean = end * (half + 0.7) / 2, (0.06, 0.0) if end > 0 else (0.0, 0.06)
        shape.box((x, 0, 0.25 + (top - 0.25) / 2), (half, width, top - 0.25), color, BUS_BODY, (*lean, 0.02))
        shape.box((x, 0, 0.3), (0.5 * half, 0.7 * width, 0.5), DARK, METAL)
        lamp, material = (WHITE_LAMP, HEAD_LAMP) if end > 0 else (RED_LAMP, TAIL_LAMP)
        for side in (-1, 1):
            shape.box((end * (length / 2 - 0.02), side * 0.36 * width, 0.8), (0.08, 0.3, 0.18), lamp, material)
    shape.box((0, 0, 0.4 + (top - 0.5) / 2), (0.7, 0.85 * width, top - 0.5), DARK, MATTE)
    shape.box((0.25 * length, 0, (top + height) / 2 - 0.05), (1.6, 0.06, 0.06), DARK, METAL, rotation=about_y(-0.3))
    shape.box((0.25 * length + 0.7, 0, height - 0.04), (0.08, 0.6 * width, 0.05), DARK, METAL)
    return shape.build()


def trailer(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """A box, curtain or tank trailer of the given outer size in metres; x is forward."""
    kind = rng.choice(['box', 'tank', 'flat'], p=[0.65, 0.15, 0.2])
    color = paint(rng) if rng.random() < 0.6 else (0.75, 0.75, 0.73)
    shape = ShapeBuilder()
    bed = 1.15
    shape.box((0, 0, bed - 0.12), (length, 0.45 * width, 0.24), DARK, MATTE)
    if kind == 'box':
        shape.box((0, 0, (bed + height) / 2), (length, width - 0.04, height - bed), color, CARGO)
    elif kind == 'tank':
        radius = min(height - bed, width)
        lying = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
        shape.cylinder((0, 0, height - radius / 2), (radius, radius, length), (0.6, 0.6, 0.62), METAL, 1.0, lying)
    else:
        shape.box((0, 0, bed + 0.06), (length, width - 0.04, 0.16), DARK, METAL)
        tall = height - bed
        shape.box((-0.05 * length, 0, bed + tall / 2), (0.8 * length, 0.9 * width, tall), color, CARGO)
    _rear_end(shape, -length / 2, width, bed)
    first = -length / 2 + 0.12 * length
    _wheels(shape, [first, first + 1.15, first + 2.3] if length > 8 else [first, first + 1.1], width, 0.95, 0.34)
    shape.box((0.28 * length, 0, 0.55), (0.14, 0.6 * width, 1.0), DARK, METAL)
    return shape.build()


def construction_vehicle(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """An excavator or wheel loader of the given outer size in metres; x is forward."""
    color = YELLOW if rng.random() < 0.75 else AMBER
    shape = ShapeBuilder()
    if rng.random() < 0.55:
        _excavator(shape, rng, length, width, height, color)
    else:
        _loader(shape, length, width, height, color)
    return shape.build()


def _excavator(
    shape: ShapeBuilder, rng: np.random.Generator, length: float, width: float, height: float, color
) -> None:
    base = 0.58 * length
    x = -length / 2 + base / 2
    for side in (-1, 1):
        y = side * (width / 2 - 0.28)
        shape.box((x, y, 0.42), (base, 0.55, 0.84), DARK, RUBBER, (0.12, 0.12, 0))
    shape.box((x - 0.05 * base, 0, 1.35), (0.9 * base, 0.92 * width, 0.9), color, PAINT, (0.02, 0.1, 0.02))
    shape.box((x + 0.22 * base, 0.24 * width, 1.8 + 0.25 * (height - 1.8)), (0.4 * base, 0.42 * width, height - 1.9),
              color, CABIN, (0.12, 0.02, 0.05))  # fmt: skip
    shape.box((x - 0.4 * base, 0, 1.5), (0.16 * base, 0.9 * width, 0.8), (0.06, 0.06, 0.06), MATTE)
    lift = rng.uniform(0.75, 0.95)
    knee = np.array([x + 0.62 * base, lift * height])
    root, tip = np.array([x + 0.2 * base, 1.6]), np.array([length / 2 - 0.35, 0.75])
    for start, end, thick in ((root, knee, 0.38), (knee, tip, 0.3)):
        span = end - start
        center = (start + end) / 2
        rotation = about_y(-np.arctan2(span[1], span[0]))
        shape.box((center[0], -0.18 * width, center[1]), (np.hypot(*span), 0.3, thick), color, PAINT, rotation=rotation)
    shape.box((length / 2 - 0.4, -0.18 * width, 0.45), (0.8, 0.9, 0.75), DARK, METAL, (0.4, 0, 0))
    shape.box((-length / 2 + 0.1 * base, 0, 1.2), (0.1, 0.5, 0.12), RED_LAMP, TAIL_LAMP)


def _loader(shape: ShapeBuilder, length: float, width: float, height: float, color) -> None:
    wheel = min(1.45, 0.5 * height)
    _wheels(shape, [-0.28 * length, 0.14 * length], width - 0.1, wheel, 0.5)
    shape.box(
        (-0.26 * length, 0, 0.52 * height), (0.44 * length, 0.6 * width, 0.4 * height), color, PAINT, (0, 0.1, 0.05)
    )
    shape.box(
        (-0.02 * length, 0, 0.70 * height),
        (0.26 * length, 0.56 * width, 0.58 * height),
        color,
        CABIN,
        (0.1, 0.05, 0.06),
    )
    shape.box((0.14 * length, 0, 0.38 * height), (0.26 * length, 0.5 * width, 0.25 * height), color, PAINT)
    for side in (-1, 1):
        shape.box((0.28 * length, side * 0.2 * width, 0.36 * height), (0.34 * length, 0.16, 0.24), color, PAINT,
                  rotation=about_y(0.35))  # fmt: skip
        shape.box((-0.48 * length, side * 0.22 * width, 0.5 * height), (0.06, 0.25, 0.15), RED_LAMP, TAIL_LAMP)
        shape.box((0.28 * length, side * 0.22 * width, 0.52 * height), (0.06, 0.2, 0.15), WHITE_LAMP, HEAD_LAMP)
    shape.box((0.44 * length, 0, 0.2 * height), (0.12 * length, width, 0.36 * height), DARK, METAL, (0.5, 0, 0))
    shape.box((0.0, 0, height - 0.04), (0.2, 0.2, 0.08), AMBER, GLASS)
