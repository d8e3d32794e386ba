"""What stands in places where crowds are: benches, shelters, and what is as tall and as thin as a person."""

from __future__ import annotations

import numpy as np

from perception3d.simulation.render.materials import BARK, FOLIAGE, GLASS, MATTE, METAL
from perception3d.simulation.render.primitives import Primitives, ShapeBuilder
from perception3d.simulation.render.surfaces import Surface
from perception3d.simulation.world.crowd_people import SEAT_M
from perception3d.simulation.world.town import lamp_post, sign, traffic_sign, tree

KINDS = {'pillar': 0.2, 'shrub': 0.2, 'meter': 0.15, 'sign': 0.15, 'tree': 0.15, 'lamp': 0.05, 'other': 0.1}
"""Odds of single things; the first three are easily taken for a person."""
BENCH_M = (0.5, 1.9)
"""Depth and length of a bench."""


def bench() -> Primitives:
    """Returns a bench at the origin whose seat faces x, with a back."""
    shape = ShapeBuilder(Surface.FIXTURE)
    wood, depth, length = (0.22, 0.15, 0.09), *BENCH_M
    shape.box((0, 0, SEAT_M - 0.03), (depth, length, 0.06), wood, BARK)
    shape.box((-depth / 2, 0, SEAT_M + 0.2), (0.05, length, 0.3), wood, BARK)
    for side in (-1, 1):
        shape.box((0, side * 0.4 * length, SEAT_M / 2), (0.4, 0.07, SEAT_M), (0.2, 0.2, 0.2), METAL)
    return shape.build()


def shelter(length_m: float) -> Primitives:
    """Returns the shelter of a stop along y around the origin, open towards x."""
    shape = ShapeBuilder(Surface.FIXTURE)
    tone = (0.25, 0.27, 0.3)
    shape.box((-0.1, 0, 2.45), (1.6, length_m, 0.1), tone, METAL)
    shape.box((-0.85, 0, 1.3), (0.04, length_m, 2.0), (0.05, 0.06, 0.07), GLASS)
    for side in (-1, 1):
        shape.box((-0.85, side * length_m / 2, 1.2), (0.1, 0.1, 2.4), tone, METAL)
        shape.box((0.6, side * length_m / 2, 1.2), (0.1, 0.1, 2.4), tone, METAL)
    return shape.build()


def single_thing(rng: np.random.Generator) -> tuple[Primitives, float]:
    """Draws one of `KINDS` at the origin; returns it with the radius in metres in which nobody can be."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if kind == 'tree':
        return tree(rng), 0.3
    if kind == 'lamp':
        return lamp_post(rng, float(rng.uniform(4, 7))), 0.15
    if kind == 'sign':
        return traffic_sign(rng), 0.1
    if kind == 'other':
        return sign(rng), 0.35
    tone = tuple(rng.uniform(0.08, 0.5) * rng.uniform(0.7, 1.0, 3))
    tall = float(rng.uniform(1.3, 1.95))
    if kind == 'pillar':
        shape, wide = ShapeBuilder(Surface.FIXTURE), float(rng.uniform(0.35, 0.6))
        shape.cylinder((0, 0, tall / 2), (wide, wide, tall), tone, MATTE)
        shape.ellipsoid((0, 0, tall), (wide + 0.06, wide + 0.06, 0.16), tone, MATTE)
        return shape.build(), wide / 2
    if kind == 'meter':
        shape = ShapeBuilder(Surface.POLE)
        shape.cylinder((0, 0, 0.5), (0.12, 0.12, 1.0), (0.3, 0.3, 0.32), METAL)
        shape.box((0, 0, tall - 0.35), (0.25, 0.35, 0.7), tone, METAL)
        return shape.build(), 0.2
    shape = ShapeBuilder(Surface.VEGETATION)
    wide = float(rng.uniform(0.4, 0.7))
    leaf = (0.05, 0.11, 0.03)
    shape.cylinder((0, 0, 0.2), (0.5, 0.5, 0.4), tone, MATTE, 1.15)
    shape.ellipsoid((0, 0, 0.35 + (tall - 0.35) / 2), (wide, wide, tall - 0.35), leaf, FOLIAGE)
    return shape.build(), wide / 2
