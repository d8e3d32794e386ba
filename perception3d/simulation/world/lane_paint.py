"""Paint of streets whose lanes are annotated: borders of lanes, new or worn, arrows, seams and patches of asphalt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from perception3d.simulation.world.road import WHITE, YELLOW, Decal, LaneLine, Layout, Paint

NEAR_M = (-15.0, 75.0)
"""Stretch of road 0 in which worn paint, seams and arrows are drawn in detail, metres from the start."""
DASHES = ((2.0, 6.0), (3.0, 9.0), (4.0, 10.0), (6.0, 15.0))
"""Lengths and periods of dashes in metres, as they are common on city roads and motorways."""
STEM_M, HEAD_M, HEAD_SLICES = 0.15, 0.42, 10
"""Width of an arrow's stem, half width of its head, and how many rectangles a head consists of."""
DOUBLE_GAP_M = 0.12


@dataclass(frozen=True)
class PaintStyle:
    """How the borders of a street's lanes are painted: on its axis, between lanes, at the outer edge."""

    center: Paint
    between: Paint
    edge: Paint
    center_color: tuple[float, float, float]
    dash: tuple[float, float]
    width_m: float
    opacity: float
    worn: float


def draw_style(rng: np.random.Generator) -> PaintStyle:
    """Draws the paint of a street. One of five is strongly worn."""
    paints = [Paint.SOLID, Paint.DASHED, Paint.DOUBLE, Paint.NONE]
    strongly = rng.random() < 0.2
    return PaintStyle(
        center=paints[rng.choice(4, p=[0.35, 0.2, 0.4, 0.05])],
        between=paints[rng.choice(4, p=[0.13, 0.85, 0.0, 0.02])],
        edge=paints[rng.choice(4, p=[0.68, 0.17, 0.0, 0.15])],
        center_color=YELLOW if rng.random() < 0.65 else WHITE,
        dash=DASHES[rng.integers(len(DASHES))],
        width_m=float(rng.uniform(0.11, 0.2)),
        opacity=float(rng.uniform(0.6, 1.0)),
        worn=float(rng.uniform(0.5, 0.8) if strongly else rng.uniform(0.0, 0.35)),
    )


def without_paint(rng: np.random.Generator, style: PaintStyle) -> PaintStyle:
    """Returns a style whose lines are not painted, or in one of three streets worn down to traces."""
    if rng.random() < 1 / 3:
        return replace(style, opacity=0.25, worn=0.95)
    return replace(style, center=Paint.NONE, between=Paint.NONE, edge=Paint.NONE)


def add_lines(layout: Layout, style: PaintStyle) -> None:
    """Adds the borders of the lanes of road 0 to a layout, from left to right."""
    road = layout.roads[0]
    common: dict[str, Any] = {
        'width_m': style.width_m,
        'dash': style.dash,
        'opacity': style.opacity,
        'worn': style.worn,
    }
    lines = [] if road.island else [LaneLine(0, 0.0, 0, style.center, style.center_color, **common)]
    for direction in (1, -1):
        side = -direction * road.side
        for k in range(0 if road.island else 1, road.lanes + 1):
            offset = side * (road.island + k * road.lane_width)
            if k == 0:
                # At an island the inner border is one line.
                paint = Paint.SOLID if style.center == Paint.DOUBLE else style.center
                line = LaneLine(0, offset, direction, paint, style.center_color, **common)
            else:
                line = LaneLine(0, offset, direction, style.edge if k == road.lanes else style.between, **common)
            lines.append(line)
    layout.lines = sorted(lines, key=lambda line: -line.offset)


def paint_lines(rng: np.random.Generator, layout: Layout) -> None:
    """Paints the borders of the lanes, outside of junctions and crosswalks."""
    for line in layout.lines:
        if line.paint == Paint.NONE:
            continue
        half, shift = line.width_m / 2, 0.5 * (line.width_m + DOUBLE_GAP_M)
        for center in (-shift, shift) if line.paint == Paint.DOUBLE else (0.0,):
            span = (line.offset + center - half, line.offset + center + half)
            for s0, s1 in layout.pieces(line.road):
                _paint_stripe(rng, layout, line, (s0, s1), span)


def _paint_stripe(
    rng: np.random.Generator, layout: Layout, line: LaneLine, along: tuple[float, float], across: tuple[float, float]
) -> None:
    """Paints one stripe; where it is worn, in pieces of their own opacity."""
    dash = line.dash if line.paint == Paint.DASHED else (0.0, 0.0)
    low, high = max(along[0], NEAR_M[0]), min(along[1], NEAR_M[1])
    if line.worn == 0.0 or low >= high:
        layout.decals.append(
            Decal(line.road, *along, *across, color=line.color, dash=dash, opacity=line.opacity * (1 - 0.5 * line.worn))
        )
        return
    s = along[0]
    while s < along[1]:
        step = float(rng.uniform(1.0, 7.0))
        if dash[1]:
            # Whole periods, so that the dashes stay in step.
            step = dash[1] * max(1, round(step / dash[1]))
        if s < low:
            step = max(step, np.ceil((low - s) / (dash[1] or 1.0)) * (dash[1] or 1.0))
        end = along[1] if s >= high else min(s + step, along[1])
        gone = rng.random() < 0.6 * line.worn
        opacity = line.opacity * (0.06 if gone else float(rng.uniform(1.0 - line.worn, 1.0)))
        layout.decals.append(Decal(line.road, s, end, *across, color=line.color, dash=dash, opacity=opacity))
        s = end


def paint_surface(rng: np.random.Generator, layout: Layout) -> None:
    """Paints what is no marking but may look like one: dark and pale patches, seams along and across the road."""
    road = layout.roads[0]
    for _ in range(int(rng.integers(2, 8))):
        s, d = rng.uniform(*NEAR_M), rng.uniform(-road.half, road.half - 2)
        tone = float(rng.uniform(0.02, 0.12))
        size = (rng.uniform(2, 14), rng.uniform(0.8, 3.4))
        layout.decals.append(
            Decal(0, s, s + size[0], d, d + size[1], color=(tone, tone, tone), opacity=float(rng.uniform(0.25, 0.6)))
        )
    for _ in range(int(rng.poisson(1.6))):
        d, s, width = rng.uniform(-road.edge, road.edge), rng.uniform(-20, 30), rng.uniform(0.04, 0.14)
        tone = float(rng.choice([0.015, 0.03, 0.22]))
        end = s + rng.uniform(15, 90)
        layout.decals.append(Decal(0, s, end, d, d + width, color=(tone, tone, tone), opacity=0.5))
    for _ in range(int(rng.poisson(1.2))):
        s, width = rng.uniform(3, 45), rng.uniform(0.04, 0.2)
        layout.decals.append(Decal(0, s, s + width, -road.half, road.half, color=(0.02, 0.02, 0.02), opacity=0.5))


def paint_arrows(rng: np.random.Generator, layout: Layout, nearest_m: tuple[float, float], length_m: float) -> None:
    """Paints rows of arrows on the lanes of road 0 that lead away from the start.

    nearest_m: where the first row begins, metres from the start. length_m: as far as that from the start one row
    follows the other; up to two rows more are drawn.
    """
    lanes = sorted(
        (lane for lane in layout.lanes if lane.road == 0 and lane.direction == 1), key=lambda lane: lane.offset
    )
    s, repeat = float(rng.uniform(*nearest_m)), float(rng.uniform(16, 30))
    opacity, pattern = float(rng.uniform(0.6, 1.0)), int(rng.integers(3))
    for row in range(int(rng.integers(1, 4)) + int(np.ceil(length_m / repeat))):
        for k, lane in enumerate(lanes):
            # Outer lanes turn off, inner ones lead straight ahead, as signs at junctions have it.
            side = -1 if k == 0 and pattern else 1 if k == len(lanes) - 1 and pattern == 2 else 0
            straight = side == 0 or rng.random() < 0.5
            _arrow(layout, (s + row * repeat, lane.offset), side, straight, opacity)


def _arrow(layout: Layout, at: tuple[float, float], side: int, straight: bool, opacity: float) -> None:
    """Paints an arrow that begins at (s, d): straight ahead, to a side (1 left, -1 right), or both."""
    start, middle = at

    def add(s0: float, s1: float, d0: float, d1: float) -> None:
        low, high = sorted((middle + d0, middle + d1))
        layout.decals.append(Decal(0, start + s0, start + s1, low, high, opacity=opacity))

    add(0.0, 3.6 if straight else 2.2, -STEM_M / 2, STEM_M / 2)
    if straight:
        for k in range(HEAD_SLICES):
            low, high = (3.6 + 2.4 * (k + j) / HEAD_SLICES for j in (0, 1))
            width = HEAD_M * (1 - (k + 0.5) / HEAD_SLICES)
            add(low, high, -width, width)
    if side:
        add(1.9, 2.5, side * STEM_M / 2, side * 0.5)
        for k in range(HEAD_SLICES):
            low, high = (1.1 + 2.2 * (k + j) / HEAD_SLICES for j in (0, 1))
            reach = 0.75 * (1 - abs(2 * (k + 0.5) / HEAD_SLICES - 1))
            add(low, high, side * 0.5, side * (0.5 + reach))
