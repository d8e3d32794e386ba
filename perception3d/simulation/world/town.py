"""The surroundings of the roads, which are never annotated: buildings, trees, lamp posts, signs, hedges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from perception3d.simulation.render.materials import BARK, BUILDING, FOLIAGE, MATTE, METAL
from perception3d.simulation.render.primitives import Primitives, ShapeBuilder, concatenate
from perception3d.simulation.render.surfaces import Surface
from perception3d.simulation.world.extras import fence, island
from perception3d.simulation.world.footprints import Places, rectangle_corners
from perception3d.simulation.world.population import Extras
from perception3d.simulation.world.road import Layout, Road

_WALLS = np.array(
    [(0.55, 0.52, 0.47), (0.42, 0.40, 0.38), (0.35, 0.20, 0.15), (0.60, 0.50, 0.36), (0.30, 0.33, 0.37),
     (0.65, 0.64, 0.60), (0.45, 0.30, 0.22), (0.22, 0.25, 0.28)]
)  # fmt: skip
_LAMP_M = (0.6, 0.22, 0.12)
_SIGNS = np.array([(0.6, 0.05, 0.04), (0.05, 0.15, 0.5), (0.65, 0.65, 0.6), (0.05, 0.3, 0.12), (0.7, 0.5, 0.05)])


def _leaf(rng: np.random.Generator) -> tuple[float, float, float]:
    base = np.array([0.055, 0.12, 0.03]) if rng.random() < 0.8 else np.array([0.16, 0.12, 0.03])
    return tuple(base * rng.uniform(0.6, 1.5, 3))


def tree(rng: np.random.Generator) -> Primitives:
    """Draws a tree at the origin."""
    shape = ShapeBuilder(Surface.TRUNK)
    height = rng.uniform(4.0, 9.0)
    trunk = rng.uniform(0.18, 0.42)
    fork = height * rng.uniform(0.3, 0.45)
    shape.cylinder((0, 0, fork / 2 + 0.3), (trunk, trunk, fork + 0.6), (0.10, 0.07, 0.05), BARK, 0.7)
    shape.surface = Surface.VEGETATION
    color = _leaf(rng)
    if rng.random() < 0.2:
        shape.cylinder((0, 0, (height + fork) / 2), (0.5 * height, 0.5 * height, height - fork), color, FOLIAGE, 0.05)
        return shape.build()
    for _ in range(int(rng.integers(2, 5))):
        size = rng.uniform(0.3, 0.52, 3) * height * (1, 1, 0.85)
        spot = rng.normal(0, 0.09 * height, 2)
        shape.ellipsoid((*spot, rng.uniform(fork + size[2] / 2, max(height - size[2] / 2, fork + size[2] / 2 + 0.1))),
                        size, color, FOLIAGE)  # fmt: skip
    return shape.build()


def lamp_post(rng: np.random.Generator, height: float) -> Primitives:
    """Draws a lamp post at the origin whose arm points along x."""
    shape = ShapeBuilder(Surface.POLE)
    tone = (0.25, 0.26, 0.27)
    shape.cylinder((0, 0, height / 2), (0.2, 0.2, height), tone, METAL, 0.6)
    arm = rng.uniform(1.0, 2.2)
    shape.box((arm / 2, 0, height - 0.05), (arm, 0.09, 0.09), tone, METAL)
    shape.box((arm, 0, height - 0.08), _LAMP_M, (0.6, 0.6, 0.55), MATTE)
    return shape.build()


def are_lamp_heads(solids: Primitives) -> np.ndarray:
    """Tells which solids are the lamps on lamp posts, (N,) bool."""
    return (solids.surface == Surface.POLE) & np.isclose(solids.half, np.array(_LAMP_M) / 2).all(1)


def sign(rng: np.random.Generator) -> Primitives:
    """Draws a sign, a signal, a bollard, a bin or a box at the origin, facing along -x."""
    kind = rng.choice(['sign', 'signal', 'bollard', 'bin', 'cabinet'], p=[0.4, 0.15, 0.2, 0.15, 0.1])
    shape = ShapeBuilder(Surface.FIXTURE if kind in ('bin', 'cabinet') else Surface.POLE)
    if kind == 'bollard':
        shape.cylinder((0, 0, 0.45), (0.16, 0.16, 0.9), (0.3, 0.3, 0.3), METAL)
    elif kind == 'bin':
        shape.cylinder((0, 0, 0.5), (0.5, 0.5, 1.0), tuple(_SIGNS[rng.integers(5)] * 0.4), MATTE, 1.1)
    elif kind == 'cabinet':
        shape.box((0, 0, 0.6), (0.5, 1.0, 1.2), (0.3, 0.32, 0.3), METAL)
    elif kind == 'sign':
        return traffic_sign(rng)
    else:
        tall = _post(shape, rng)
        shape.box((-0.1, 0, tall + 0.3), (0.25, 0.3, 0.9), (0.03, 0.03, 0.03), MATTE)
    return shape.build()


def traffic_sign(rng: np.random.Generator) -> Primitives:
    """Draws a traffic sign on its post at the origin, facing along -x."""
    shape = ShapeBuilder(Surface.POLE)
    tall = _post(shape, rng)
    wide = rng.uniform(0.5, 0.9)
    shape.surface = Surface.SIGN
    shape.box((-0.06, 0, tall - 0.1), (0.03, wide, wide), tuple(_SIGNS[rng.integers(5)]), MATTE)
    return shape.build()


def _post(shape: ShapeBuilder, rng: np.random.Generator) -> float:
    tall = float(rng.uniform(2.3, 3.2))
    shape.cylinder((0, 0, tall / 2), (0.08, 0.08, tall), (0.35, 0.35, 0.36), METAL)
    return tall


def _building(rng: np.random.Generator, width: float, depth: float, height: float) -> Primitives:
    shape = ShapeBuilder(Surface.BUILDING)
    color = tuple(np.clip(_WALLS[rng.integers(len(_WALLS))] * rng.uniform(0.8, 1.15), 0, 0.8))
    shape.box((0, 0, height / 2), (width, depth, height), color, BUILDING)
    shape.box((0, 0, height + 0.2), (width + 0.4, depth + 0.4, 0.4), tuple(0.8 * np.array(color)), MATTE)
    if rng.random() < 0.4:
        shape.box((0, 0, height + 1.6), (0.3 * width, 0.4 * depth, 2.6), (0.4, 0.4, 0.4), MATTE)
    if rng.random() < 0.35:
        shape.box((0, -depth / 2 - 0.6, 3.2), (0.7 * width, 1.2, 0.18), tuple(_SIGNS[rng.integers(5)] * 0.6), MATTE)
    return shape.build()


@dataclass
class Town:
    """The surroundings in the making: solids so far, and the ground that is occupied."""

    rng: np.random.Generator
    layout: Layout
    places: Places
    style: str
    extras: Extras | None = None
    parts: list[Primitives] = field(default_factory=list)


@dataclass(frozen=True)
class StreetSide:
    """One side of a road between two values of s; side: 1 left, -1 right of its axis."""

    road: Road
    side: int
    start_m: float
    end_m: float


def build_town(
    rng: np.random.Generator,
    layout: Layout,
    places: Places,
    reach: tuple[float, float],
    extras: Extras | None = None,
    styles: tuple[str, ...] = (),
) -> Primitives:
    """Draws the surroundings of the roads, and marks their ground in `places`.

    reach: lowest and highest s of each. styles: tall, mixed, low, park, and open, which has trees and bushes alone; one
    is drawn. Without any, tall to park are drawn as often as in other data of the built-in world.
    """
    low_s, high_s = reach
    style = rng.choice(styles) if styles else rng.choice(['tall', 'mixed', 'low', 'park'], p=[0.3, 0.35, 0.2, 0.15])
    town = Town(rng, layout, places, str(style), extras)
    for number, road in enumerate(layout.roads):
        if road.island:
            town.parts += island(layout, number, low_s, high_s)
        for side in (-1, 1):
            street = StreetSide(road, side, max(low_s, road.s_min + 5), min(high_s, road.s_max - 5))
            _facades(town, street)
            if extras:
                _bushes(town, street, extras.bushes)
                _signs(town, street, extras.signs)
            _street_furniture(town, street)
    for _ in range(int(rng.integers(10, 40 if style != 'park' else 90))):
        road = layout.roads[rng.integers(len(layout.roads))]
        spot = road.pose(rng.uniform(low_s, high_s), rng.choice([-1, 1]) * (road.outer + rng.uniform(1.5, 30)))
        _plant_tree(town, float(spot[0]), float(spot[1]))
    return concatenate(town.parts)


def _plant_tree(town: Town, x: float, y: float) -> None:
    if town.layout.on_road(np.array([[x, y]]), 0.6)[0] or not town.places.claim((x, y, 0.6, 0.6, 0.0)):
        return
    town.parts.append(tree(town.rng).placed(x, y, town.rng.uniform(0, 6.28)))


def _facades(town: Town, street: StreetSide) -> None:
    """Adds rows of buildings, hedges and gaps behind one sidewalk."""
    rng, layout, places, style = town.rng, town.layout, town.places, town.style
    road, side, s = street.road, street.side, street.start_m
    while s < street.end_m:
        width, depth = rng.uniform(10, 34), rng.uniform(9, 22)
        draw = rng.random()
        share = {'tall': 0.92, 'mixed': 0.8, 'low': 0.75, 'park': 0.25, 'open': 0.0}[style]
        setback = rng.uniform(0.4, 2.5) if style != 'low' else rng.uniform(2, 8)
        if draw < share:
            tall = {'tall': rng.uniform(14, 55), 'mixed': rng.uniform(6, 26), 'low': rng.uniform(3.5, 9), 'park': 7.0}[
                style
            ]
            x, y, yaw = map(float, road.pose(s + width / 2, side * (road.outer + setback + depth / 2)))
            yaw += 0.0 if side > 0 else np.pi
            rect = (x, y, width, depth, yaw)
            if not layout.on_road(_samples(rect), 0.3).any() and places.claim(rect, 0.1):
                town.parts.append(_building(rng, width, depth, tall).placed(x, y, yaw))
        elif draw < share + 0.12:
            x, y, yaw = map(float, road.pose(s + width / 2, side * (road.outer + 0.8)))
            rect = (x, y, 0.8 * width, 1.0, yaw)
            if not layout.on_road(_samples(rect), 0.1).any() and places.claim(rect, 0.1):
                shape = ShapeBuilder(Surface.VEGETATION)
                tall = rng.uniform(0.7, 1.7)
                shape.box((0, 0, tall / 2), (0.8 * width, 0.9, tall), _leaf(rng), FOLIAGE)
                town.parts.append(shape.build().placed(x, y, yaw))
        elif town.extras and rng.random() < town.extras.fences:
            _add_fence(town, street, s, width)
        s += width + rng.uniform(0.3, 6)


def _add_fence(town: Town, street: StreetSide, start_s: float, length_m: float) -> None:
    """Adds a fence behind a sidewalk, in pieces that follow the road."""
    rng, road = town.rng, street.road
    design = str(rng.choice(['boards', 'rails', 'wall'], p=[0.4, 0.35, 0.25]))
    height, setback = float(rng.uniform(0.9, 1.9)), float(rng.uniform(0.3, 1.2))
    pieces = int(np.ceil(length_m / 5.0))
    for k in range(pieces):
        step = length_m / pieces
        x, y, yaw = map(float, road.pose(start_s + (k + 0.5) * step, street.side * (road.outer + setback)))
        rect = (x, y, step, 0.3, yaw)
        if not town.layout.on_road(_samples(rect), 0.1).any() and town.places.claim(rect, 0.0):
            town.parts.append(fence(rng, step, design, height).placed(x, y, yaw))


def _bushes(town: Town, street: StreetSide, density: float) -> None:
    """Adds bushes behind a sidewalk; density: mean number per 10 m."""
    rng, road = town.rng, street.road
    for _ in range(rng.poisson(density * max(0.0, street.end_m - street.start_m) / 10)):
        s, d = rng.uniform(street.start_m, street.end_m), road.outer + 0.7 + rng.exponential(3.0)
        x, y, yaw = map(float, road.pose(s, street.side * d))
        wide = float(rng.uniform(0.8, 2.6))
        if town.layout.on_road(np.array([[x, y]]), wide / 2)[0] or not town.places.claim((x, y, wide, wide, yaw), 0.0):
            continue
        town.parts.append(_bush(rng, wide).placed(x, y, yaw))


def _bush(rng: np.random.Generator, wide: float) -> Primitives:
    """Draws a bush, or a conifer whose branches reach the ground, `wide` metres wide, at the origin."""
    shape, color = ShapeBuilder(Surface.VEGETATION), _leaf(rng)
    if rng.random() < 0.25:
        height = wide * rng.uniform(1.4, 2.6)
        shape.cylinder((0, 0, height / 2), (wide, wide, height), color, FOLIAGE, 0.1)
        return shape.build()
    for _ in range(int(rng.integers(1, 4))):
        size = wide * rng.uniform(0.6, 1.0, 3)
        spot = rng.uniform(-0.2, 0.2, 2) * wide
        shape.ellipsoid((*spot, 0.35 * size[2]), size, color, FOLIAGE)
    return shape.build()


def _signs(town: Town, street: StreetSide, density: float) -> None:
    """Adds traffic signs along one curb; density: mean number per 10 m."""
    rng, road = town.rng, street.road
    number = town.layout.roads.index(road)
    for _ in range(rng.poisson(density * max(0.0, street.end_m - street.start_m) / 10)):
        s = rng.uniform(street.start_m, street.end_m)
        x, y, yaw = map(float, road.pose(s, street.side * (road.half + 0.5)))
        blocked = town.layout.in_junction(number, s, 1.0) or _on_other_road(town.layout, road, x, y)
        if not blocked and town.places.claim((x, y, 0.5, 0.5, 0.0), 0.0):
            facing = 0 if street.side * road.side < 0 else np.pi
            town.parts.append(traffic_sign(rng).placed(x, y, yaw + facing))


def _samples(rect: tuple[float, float, float, float, float]) -> np.ndarray:
    corners = rectangle_corners(np.array([rect]))[0]
    weights = np.linspace(0, 1, 6)
    top = corners[0] + weights[:, None] * (corners[1] - corners[0])
    low = corners[3] + weights[:, None] * (corners[2] - corners[3])
    return (top[:, None] + weights[None, :, None] * (low - top)[:, None]).reshape(-1, 2)


def _street_furniture(town: Town, street: StreetSide) -> None:
    """Adds lamp posts, trees and signs along one curb."""
    rng, layout, places = town.rng, town.layout, town.places
    road, side, start, end = street.road, street.side, street.start_m, street.end_m
    number = layout.roads.index(road)
    gap, post = rng.uniform(18, 34), rng.uniform(6, 9)
    trees = rng.random() < 0.6
    s = start + rng.uniform(0, gap)
    while s < end:
        if not layout.in_junction(number, s, 2.0):
            x, y, yaw = map(float, road.pose(s, side * (road.half + 0.55)))
            if not _on_other_road(layout, road, x, y) and places.claim((x, y, 0.25, 0.25, 0.0)):
                town.parts.append(lamp_post(rng, post).placed(x, y, yaw - side * np.pi / 2))
        s += gap
    s = start
    while s < end:
        s += rng.uniform(6, 16)
        x, y, yaw = map(float, road.pose(s, side * (road.half + 0.7)))
        if layout.in_junction(number, s, 3.0) or _on_other_road(layout, road, x, y):
            continue
        draw = rng.random()
        if trees and draw < 0.6 and places.claim((x, y, 0.5, 0.5, 0.0)):
            town.parts.append(tree(rng).placed(x, y, yaw))
        elif draw > 0.65 and places.claim((x, y, 0.6, 0.6, 0.0)):
            town.parts.append(sign(rng).placed(x, y, yaw + (0 if side * road.side < 0 else np.pi)))


def _on_other_road(layout: Layout, road: Road, x: float, y: float) -> bool:
    """Tells whether a point next to `road` is on another road's carriageway."""
    for other in layout.roads:
        if other is road:
            continue
        s, d = other.locate(np.array([[x, y]]))[0]
        if other.s_min < s < other.s_max and abs(d) < other.half + 0.8:
            return True
    return False
