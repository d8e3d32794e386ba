"""Pedestrians, two-wheelers with and without riders, cones and barriers."""

from __future__ import annotations

import numpy as np

from perception3d.simulation.render.materials import (
    BARRIER,
    CLOTH,
    CONE,
    GLASS,
    HEAD_LAMP,
    MATTE,
    METAL,
    RUBBER,
    TAIL_LAMP,
)
from perception3d.simulation.render.primitives import Primitives, ShapeBuilder, about_y
from perception3d.simulation.world.vehicles import DARK, RED_LAMP, WHITE_LAMP, paint

_SKIN = np.array([(0.62, 0.40, 0.30), (0.50, 0.30, 0.20), (0.32, 0.18, 0.11), (0.14, 0.07, 0.045)])
_TROUSERS = np.array(
    [(0.02, 0.03, 0.07), (0.03, 0.03, 0.03), (0.10, 0.09, 0.07), (0.04, 0.07, 0.14), (0.25, 0.2, 0.14)]
)
VEST = (0.85, 0.40, 0.02)


def cloth(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draws a colour for a jacket or shirt, linear RGB."""
    return tuple(rng.choice([0.05, 0.15, 0.35, 0.6]) * np.clip(rng.uniform(0.2, 1.3, 3), 0, 1))


def skin_tone(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draws a colour of skin, linear RGB."""
    return tuple(_SKIN[rng.integers(len(_SKIN))])


def trousers(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draws a colour for trousers, linear RGB."""
    return tuple(_TROUSERS[rng.integers(len(_TROUSERS))])


def pedestrian(
    rng: np.random.Generator, length: float, width: float, height: float, worker: bool = False
) -> Primitives:
    """A person of the given outer size in metres, in mid-step; x is forward. A worker wears a vest and a helmet."""
    shape = ShapeBuilder()
    top = VEST if worker else cloth(rng)
    legs = trousers(rng)
    skin = skin_tone(rng)
    stride = 0.28 * length
    hip, shoulder = 0.50 * height, 0.84 * height
    for side in (-1, 1):
        lean = about_y(-side * np.arctan2(stride, hip))
        shape.cylinder((side * stride / 2, side * 0.14 * width, hip / 2), (0.16, 0.15, hip), legs, CLOTH, 1.15, lean)
        shape.ellipsoid((side * stride + 0.06, side * 0.14 * width, 0.05), (0.27, 0.1, 0.1), DARK, MATTE)
        swing = about_y(side * 0.35)
        arm = (side * -0.14 * length, side * (width / 2 - 0.06), 0.66 * height)
        shape.cylinder(arm, (0.11, 0.11, 0.38 * height), top, CLOTH, 1.0, swing)
    shape.cylinder((0, 0, (hip + shoulder) / 2), (0.26, 0.62 * width, shoulder - hip + 0.06), top, CLOTH, 1.12)
    head = 0.135 * height
    shape.ellipsoid((0.02, 0, height - 0.55 * head), (0.2, 0.17, 1.1 * head), skin, CLOTH)
    hair = (0.8, 0.6, 0.03) if worker else ((0.02, 0.015, 0.01) if rng.random() < 0.7 else (0.2, 0.12, 0.05))
    shape.ellipsoid((-0.02, 0, height - 0.4 * head), (0.21, 0.19, 0.8 * head), hair, MATTE)
    if not worker and rng.random() < 0.3:
        shape.box((-0.19, 0, 0.70 * height), (0.16, 0.5 * width, 0.24 * height), cloth(rng), CLOTH)
    return shape.build()


def _rider(
    shape: ShapeBuilder, rng: np.random.Generator, seat: float, height: float, width: float, hands: float
) -> None:
    """A person sitting at height `seat` whose hands are at x = `hands`."""
    top, skin = cloth(rng), skin_tone(rng)
    legs = trousers(rng)
    chest = height - 0.27
    length = chest - seat + 0.05
    shape.cylinder((-0.02, 0, seat + length / 2), (0.26, 0.66 * width, length), top, CLOTH, 1.1, about_y(0.25))
    for side in (-1, 1):
        y = side * 0.30 * width
        shape.cylinder(
            (0.1, y * 0.7, 0.62 * seat), (0.15, 0.14, 0.85 * seat), legs, CLOTH, 1.1, about_y(0.25 * side - 0.2)
        )
        arm = about_y(1.15)
        shape.cylinder((0.5 * hands, y, chest - 0.22), (0.1, 0.1, 1.05 * hands), top, CLOTH, 1.0, arm)
    shape.ellipsoid((0.1, 0, height - 0.13), (0.22, 0.19, 0.26), skin, CLOTH)
    shape.ellipsoid((0.08, 0, height - 0.09), (0.26, 0.22, 0.18), paint(rng), MATTE)


def bicycle(rng: np.random.Generator, length: float, width: float, height: float, rider: bool = False) -> Primitives:
    """A bicycle with or without a rider, of the given outer size in metres; x is forward."""
    shape = ShapeBuilder()
    color = paint(rng)
    wheel = 0.66
    axle = length / 2 - wheel / 2
    for x in (-axle, axle):
        shape.wheel((x, 0, wheel / 2), wheel, 0.05, DARK, RUBBER)
        shape.wheel((x, 0, wheel / 2), 0.82 * wheel, 0.056, (0.25, 0.25, 0.25), METAL)
    hub, seat, pedals, head = (-axle, 0.33), (-0.1, 0.8), (-0.05, 0.3), (axle - 0.2, 0.85)
    frame = [(hub, seat), (seat, head), (pedals, head), (hub, pedals), (pedals, (-0.15, 0.9))]
    frame.append(((axle, 0.33), (axle - 0.25, 1.0)))
    for start, end in frame:
        run, rise = end[0] - start[0], end[1] - start[1]
        center = ((start[0] + end[0]) / 2, 0, (start[1] + end[1]) / 2)
        shape.box(center, (np.hypot(run, rise), 0.06, 0.06), color, METAL, rotation=about_y(-np.arctan2(rise, run)))
    shape.box((-0.16, 0, 0.93), (0.26, 0.16, 0.08), DARK, MATTE)
    shape.box((axle - 0.25, 0, 1.02), (0.06, width, 0.05), DARK, METAL)
    shape.box((-axle - 0.05, 0, 0.72), (0.05, 0.07, 0.07), RED_LAMP, TAIL_LAMP)
    if rider:
        _rider(shape, rng, 0.92, height, width, 0.5)
    return shape.build()


def motorcycle(rng: np.random.Generator, length: float, width: float, height: float, rider: bool = False) -> Primitives:
    """A motorcycle or scooter with or without a rider, of the given outer size in metres; x is forward."""
    shape = ShapeBuilder()
    color = paint(rng)
    wheel = 0.6
    axle = length / 2 - wheel / 2
    for x in (-axle, axle):
        shape.wheel((x, 0, wheel / 2), wheel, 0.15, DARK, RUBBER)
        shape.wheel((x, 0, wheel / 2), 0.55 * wheel, 0.16, (0.35, 0.35, 0.36), METAL)
    shape.box((0.0, 0, 0.45), (0.95 * axle, 0.3, 0.4), DARK, METAL)
    shape.ellipsoid((0.2, 0, 0.78), (0.7, 0.34, 0.34), color, 1)
    shape.box((-0.42, 0, 0.78), (0.75, 0.28, 0.14), DARK, MATTE)
    shape.ellipsoid((-axle + 0.05, 0, 0.72), (0.55, 0.28, 0.24), color, 1)
    shape.cylinder((axle - 0.14, 0, 0.62), (0.12, 0.2, 0.75), DARK, METAL, 1.0, about_y(-0.35))
    shape.box((axle - 0.3, 0, 1.0), (0.08, width, 0.07), DARK, METAL)
    shape.ellipsoid((axle - 0.16, 0, 0.9), (0.22, 0.24, 0.24), WHITE_LAMP, HEAD_LAMP)
    top = 1.28 if rider else height
    shape.box((axle - 0.24, 0, (top + 0.95) / 2), (0.05, 0.34, top - 0.95), DARK, GLASS)
    for side in (-1, 1):
        shape.box((axle - 0.3, side * 0.4 * width, 1.12), (0.05, 0.12, 0.16), DARK, MATTE)
    shape.box((-axle - 0.18, 0, 0.75), (0.06, 0.2, 0.09), RED_LAMP, TAIL_LAMP)
    if rider:
        _rider(shape, rng, 0.85, height, width, 0.55)
    return shape.build()


def traffic_cone(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """A traffic cone with a square base, of the given outer size in metres."""
    shape = ShapeBuilder()
    orange = (0.85, rng.uniform(0.10, 0.2), 0.01)
    shape.box((0, 0, 0.03), (length, width, 0.06), orange if rng.random() < 0.5 else DARK, MATTE)
    shape.cylinder((0, 0, height / 2 + 0.02), (0.72 * length, 0.72 * width, height - 0.04), orange, CONE, 0.18)
    return shape.build()


def barrier(rng: np.random.Generator, length: float, width: float, height: float) -> Primitives:
    """A plastic or concrete barrier; x, its heading, is the thin direction, as nuScenes labels barriers."""
    shape = ShapeBuilder()
    design = rng.choice(['plastic', 'concrete', 'board'], p=[0.55, 0.25, 0.2])
    if design == 'board':
        shape.box((0, 0, 0.78 * height), (0.08, width, 0.34 * height), (0.7, 0.05, 0.03), BARRIER)
        for side in (-1, 1):
            shape.box((0, side * 0.42 * width, 0.48 * height), (0.07, 0.1, 0.96 * height), (0.6, 0.6, 0.58), MATTE)
            shape.box((0, side * 0.42 * width, 0.04), (length, 0.2, 0.08), DARK, MATTE)
        return shape.build()
    color = (0.75, 0.10, 0.03) if design == 'plastic' and rng.random() < 0.6 else (0.6, 0.6, 0.57)
    shape.box((0, 0, 0.18 * height), (length, width, 0.36 * height), color, MATTE, (0.2, 0.2, 0))
    shape.box((0, 0, 0.66 * height), (0.72 * length, width, 0.68 * height), color, MATTE, (0.35, 0.35, 0.0))
    return shape.build()
