"""What streets have in addition where every point is annotated: pavements of parking places, islands, fences."""

from __future__ import annotations

import numpy as np

from perception3d.simulation.render.materials import MATTE, METAL
from perception3d.simulation.render.primitives import Primitives, ShapeBuilder
from perception3d.simulation.render.surfaces import Surface
from perception3d.simulation.world.road import Area, Layout

ISLAND_STEP_M, ISLAND_HEIGHT_M = 3.0, 0.15
"""Length of the boxes that an island is made of, so that it follows a curve, and height above the road."""


def pave_lot(layout: Layout, road: int, along_m: tuple[float, float], across_m: tuple[float, float]) -> None:
    """Marks the ground of a car park next to a road."""
    low, high = sorted(across_m)
    layout.areas.append(Area(road, *along_m, low, high, Surface.TERRAIN, Surface.PARKING))


def pave_parking_strips(layout: Layout) -> None:
    """Marks the parking strips along the carriageways, without junctions and crosswalks."""
    for number, road in enumerate(layout.roads):
        if road.parking < 1:
            continue
        for s0, s1 in layout.pieces(number):
            for low, high in ((-road.half, -road.edge), (road.edge, road.half)):
                layout.areas.append(Area(number, s0, s1, low, high, Surface.ROAD, Surface.PARKING))


def island(layout: Layout, number: int, low_s: float, high_s: float) -> list[Primitives]:
    """Returns the solids of the raised island on the axis of a road, which is open at junctions and crosswalks."""
    road, parts = layout.roads[number], []
    width = 2 * road.island - 0.3
    for start, end in layout.pieces(number):
        start, end = max(start + 0.5, low_s), min(end - 0.5, high_s)
        for s in np.arange(start, end - 0.5, ISLAND_STEP_M):
            length = min(ISLAND_STEP_M, end - s)
            x, y, yaw = map(float, road.pose(s + length / 2, 0.0))
            shape = ShapeBuilder(Surface.ISLAND)
            size = (length + 0.02, width, ISLAND_HEIGHT_M)
            shape.box((0, 0, ISLAND_HEIGHT_M / 2), size, (0.35, 0.34, 0.32), MATTE, (0.0, 0.0, 0.06))
            parts.append(shape.build().placed(x, y, yaw))
    return parts


def fence(rng: np.random.Generator, length_m: float, design: str, height_m: float) -> Primitives:
    """Returns a piece of fence of a `design`, boards, rails or wall, along x and around the origin."""
    shape = ShapeBuilder(Surface.FENCE)
    if design == 'wall':
        color = tuple(rng.uniform(0.25, 0.5) * np.array([1.0, 0.95, 0.88]))
        shape.box((0, 0, height_m / 2), (length_m, 0.28, height_m), color, MATTE)
        return shape.build()
    tone = (0.22, 0.16, 0.10) if design == 'boards' else (0.30, 0.31, 0.32)
    for x in np.linspace(-length_m / 2 + 0.06, length_m / 2 - 0.06, max(2, round(length_m / 2.4) + 1)):
        shape.box((float(x), 0, height_m / 2), (0.1, 0.1, height_m), tone, METAL)
    if design == 'boards':
        shape.box((0, 0, 0.08 + height_m / 2), (length_m, 0.05, height_m - 0.16), tone, MATTE)
        return shape.build()
    for share in (0.3, 0.6, 0.92):
        shape.box((0, 0, share * height_m), (length_m, 0.06, 0.12), tone, METAL)
    return shape.build()
