"""Streets of lane data sets: several lanes, curves, paint of all kinds and, for the category cross, a junction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception3d.simulation.world.bend import BentRoad, bent_axis
from perception3d.simulation.world.lane_paint import (
    add_lines,
    draw_style,
    paint_arrows,
    paint_lines,
    paint_surface,
    without_paint,
)
from perception3d.simulation.world.road import (
    Crosswalk,
    Lane,
    LaneLine,
    Layout,
    Road,
    StopLine,
    add_junction,
    paint_crossings,
)

CATEGORIES = ('normal', 'crowd', 'hlight', 'shadow', 'noline', 'arrow', 'curve', 'cross', 'night')
"""What a scene shows: the nine categories of CULane's test set."""

LANE_WHEELBASE_M = 2.6
"""Distance of the axles of the ego vehicle."""


@dataclass(frozen=True)
class Site:
    """Where a lane data set was recorded.

    Attributes:
        lane_odds: odds of 1, 2, 3, .. lanes per direction.
        lane_width_m, sidewalk_m: lowest and highest value. The strip beside a motorway counts as sidewalk.
        parking: share of the streets with parking strips.
        divided: share of the streets whose directions are apart.
        curved: share of the roads with a curve; radius_m: their lowest and highest radius.
        crosswalks: share of the streets with a crosswalk.
        motorway: there are guard rails and trees instead of houses, and no people.
    """

    lane_odds: tuple[float, ...]
    lane_width_m: tuple[float, float]
    sidewalk_m: tuple[float, float]
    parking: float
    divided: float
    curved: float
    radius_m: tuple[float, float]
    crosswalks: float
    motorway: bool = False


CITY = Site((0.12, 0.4, 0.36, 0.12), (2.9, 3.7), (2.0, 5.0), 0.3, 0.35, 0.6, (180.0, 900.0), 0.12)
MOTORWAY = Site((0.0, 0.3, 0.45, 0.25), (3.5, 3.9), (1.0, 3.0), 0.0, 1.0, 0.55, (250.0, 1200.0), 0.0, True)
CURVE_M, CURVE_AHEAD_M = (65.0, 220.0), 30.0
"""Radius of the roads of the category curve, and how far ahead of the ego vehicle the curve continues at least."""


def make_lane_layout(rng: np.random.Generator, site: Site, category: str, length_m: float) -> Layout:
    """Draws a street whose road 0 passes the origin along x and continues for `length_m` metres ahead."""
    road = _draw_road(rng, site, category, length_m)
    layout = Layout('straight' if len(road.pieces) == 1 else 'curve', [road], [], gaps=[[]])
    if category == 'cross':
        layout.kind = 'crossing'
        at = road.half + float(rng.uniform(8.0, 13.0))
        cross = Road(
            at, 0.0, np.pi / 2 + rng.normal(0, 0.1), 0.0, -90.0, 90.0,
            road.lanes, road.lane_width, 0.35, road.sidewalk, 1,
        )  # fmt: skip
        layout.roads.append(cross)
        layout.green = int(rng.random() < 0.5)
        add_junction(layout, at, cross.heading_rad)
    elif rng.random() < site.crosswalks:
        at = float(rng.uniform(16, 45))
        layout.crosswalks.append(Crosswalk(0, at, at + 3.0))
        layout.stop_lines += [StopLine(0, 1, at - 1.6), StopLine(0, -1, at + 4.6)]
    for number, street in enumerate(layout.roads):
        for k in range(street.lanes):
            for direction in (1, -1):
                offset = street.island + (k + 0.5) * street.lane_width
                layout.lanes.append(Lane(number, -direction * street.side * offset, direction))
    _paint(rng, layout, category, length_m)
    return layout


def _draw_road(rng: np.random.Generator, site: Site, category: str, length_m: float) -> BentRoad:
    """Draws the axis and the cross section of road 0."""
    ahead, behind = length_m + 130.0, -45.0
    parts = [(behind, 0.0)]
    sign = float(rng.choice([-1, 1]))
    if category == 'curve':
        radius = float(rng.uniform(*CURVE_M))
        start = float(rng.uniform(-40.0, 12.0))
        # It lasts until the scene's last image, and some way ahead of it.
        end = max(start + radius * float(rng.uniform(0.5, 1.0)), length_m + CURVE_AHEAD_M)
        parts = [(behind, 0.0), (start, sign * radius), (end, 0.0)]
    elif category != 'cross' and rng.random() < site.curved:
        start, radius = float(rng.uniform(-44.0, 25.0)), float(np.exp(rng.uniform(*np.log(site.radius_m))))
        parts = [(behind, 0.0), (start, sign * radius), (start + float(rng.uniform(60, 160)), 0.0)]
    odds = np.array(site.lane_odds)
    if category in ('arrow', 'cross', 'crowd'):
        # Arrows and waiting traffic are on roads with lanes to choose from.
        odds[0] = 0.0
    parked = rng.random() < site.parking
    return BentRoad(
        0.0, 0.0, 0.0, 0.0, behind, ahead,
        lanes=1 + int(rng.choice(len(odds), p=odds / odds.sum())),
        lane_width=float(rng.uniform(*site.lane_width_m)),
        parking=float(rng.uniform(2.3, 2.7) if parked else rng.uniform(0.3, 1.2)),
        sidewalk=float(rng.uniform(*site.sidewalk_m)),
        side=1,
        island=float(rng.uniform(0.5, 1.4)) if rng.random() < site.divided and category != 'cross' else 0.0,
        pieces=bent_axis([part for part in parts if part[0] < ahead], behind, ahead),
    )  # fmt: skip


def _paint(rng: np.random.Generator, layout: Layout, category: str, length_m: float) -> None:
    style = draw_style(rng)
    if category == 'noline':
        style = without_paint(rng, style)
    paint_surface(rng, layout)
    add_lines(layout, style)
    paint_lines(rng, layout)
    paint_crossings(layout, style.opacity)
    if category == 'arrow':
        paint_arrows(rng, layout, (6.0, 13.0), length_m)
    elif category not in ('noline', 'cross') and rng.random() < 0.12:
        paint_arrows(rng, layout, (18.0, 40.0), 0.0)


def ego_lines(layout: Layout, lane: int, most: int) -> tuple[list[LaneLine], list[LaneLine]]:
    """Returns the borders on the left and on the right of a lane of road 0 that count as its own, nearest first.

    These are the lines of its direction and that on the axis, at most `most` on each side: what annotators of CULane
    and TuSimple draw. Lines of the opposite direction are left out.
    """
    here = layout.lanes[lane]
    own = [line for line in layout.lines if line.direction in (0, here.direction)]
    left = sorted((line for line in own if line.offset > here.offset), key=lambda line: line.offset)
    right = sorted((line for line in own if line.offset < here.offset), key=lambda line: -line.offset)
    return left[:most], right[:most]
