"""Road axes, lanes and painted markings: straight roads, curves and crossings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from perception3d.simulation.render.ground import Ground, GroundColors
from perception3d.simulation.render.surfaces import Surface

WHITE = (0.62, 0.62, 0.60)
YELLOW = (0.62, 0.42, 0.06)


@dataclass(frozen=True)
class Axis:
    """The straight or circular axis of a road: origin, heading there, radius, range of s in metres.

    radius_m: 0 for a line, positive for a left turn.
    """

    x: float
    y: float
    heading_rad: float
    radius_m: float
    s_min: float
    s_max: float


@dataclass(frozen=True)
class Road(Axis):
    """One road; s runs along its axis, d to the left of it, metres.

    lanes: per direction. `side` is 1 where traffic keeps right. island: half width in metres of the strip between the
    directions, on which a raised traffic island may be.
    """

    lanes: int
    lane_width: float
    parking: float
    sidewalk: float
    side: int
    island: float = 0.0

    @property
    def edge(self) -> float:
        """Distance of the outer lane edge from the axis."""
        return self.island + self.lanes * self.lane_width

    @property
    def half(self) -> float:
        """Half width of the carriageway, parking strips included."""
        return self.edge + self.parking

    @property
    def outer(self) -> float:
        """Distance of the sidewalk's outer edge from the axis."""
        return self.half + self.sidewalk

    def pose(self, s: np.ndarray | float, d: np.ndarray | float) -> np.ndarray:
        """Returns (.., 3): x, y and the direction of rising s in radians at road coordinates."""
        s, d = np.broadcast_arrays(np.asarray(s, float), np.asarray(d, float))
        cos, sin = np.cos(self.heading_rad), np.sin(self.heading_rad)
        if self.radius_m == 0:
            return np.stack(
                [self.x + s * cos - d * sin, self.y + s * sin + d * cos, np.full_like(s, self.heading_rad)], -1
            )
        angle = self.heading_rad + s / self.radius_m
        center_x, center_y = self.x - self.radius_m * sin, self.y + self.radius_m * cos
        distance = self.radius_m - d
        return np.stack([center_x + distance * np.sin(angle), center_y - distance * np.cos(angle), angle], -1)

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Returns road coordinates (N, 2) of points (N, 2); the inverse of `pose`."""
        offset = np.asarray(points, float) - (self.x, self.y)
        cos, sin = np.cos(self.heading_rad), np.sin(self.heading_rad)
        if self.radius_m == 0:
            return np.stack([offset @ (cos, sin), offset @ (-sin, cos)], -1)
        base = self.radius_m * np.array([sin, -cos])
        arm = offset + base
        angle = np.arctan2(base[0] * arm[:, 1] - base[1] * arm[:, 0], arm @ base)
        return np.stack(
            [self.radius_m * angle, self.radius_m - np.sign(self.radius_m) * np.hypot(arm[:, 0], arm[:, 1])], -1
        )

    def row(self) -> list[float]:
        """Returns the first ten numbers of the road's row of `Ground.roads`."""
        curved = 0.0 if self.radius_m == 0 else 1.0
        heading = [np.cos(self.heading_rad), np.sin(self.heading_rad)]
        return [curved, self.x, self.y, *heading, self.radius_m, self.s_min, self.s_max, self.half, self.outer]

    def rows(self) -> list[list[float]]:
        """Returns one such row for every piece of the axis."""
        return [self.row()]


@dataclass(frozen=True)
class Lane:
    """A lane: constant `offset` d on a road; traffic runs in the direction of rising s (1) or against it (-1)."""

    road: int
    offset: float
    direction: int


@dataclass(frozen=True)
class Crosswalk:
    """A crosswalk over a road, from s = start_m to end_m."""

    road: int
    start_m: float
    end_m: float


@dataclass(frozen=True)
class StopLine:
    """A stop line at s = s_m of a road for the traffic of one direction; see `Lane`."""

    road: int
    direction: int
    s_m: float


@dataclass(frozen=True)
class Decal:
    """Paint or a patch on a road: a rectangle in road coordinates, s = s0..s1 and d = d0..d1 in metres.

    dash: length and period of dashes along s; bars: width and period of bars along d; (0, 0) for an undivided
    rectangle. color: linear RGB. opacity: 1 for new paint.
    """

    road: int
    s0: float
    s1: float
    d0: float
    d1: float
    color: tuple[float, float, float] = WHITE
    dash: tuple[float, float] = (0, 0)
    bars: tuple[float, float] = (0, 0)
    opacity: float = 1.0

    def row(self) -> list[float]:
        """Returns the decal's row of `Ground.decals`."""
        return [self.road, self.s0, self.s1, self.d0, self.d1, *self.dash, *self.bars, *self.color, self.opacity]


@dataclass(frozen=True)
class Area:
    """A rectangle in road coordinates, s = s0..s1 and d = d0..d1 in metres, that is paved as `surface`.

    over: the surface that the ground has there otherwise; only this is replaced.
    """

    road: int
    s0: float
    s1: float
    d0: float
    d1: float
    over: Surface
    surface: Surface

    def row(self) -> list[float]:
        """Returns the area's row of `Ground.areas`."""
        return [self.road, self.s0, self.s1, self.d0, self.d1, self.over, self.surface]


class Paint(str, Enum):
    """How a border of a lane is painted."""

    SOLID = 'solid'
    DASHED = 'dashed'
    DOUBLE = 'double'
    NONE = 'none'


@dataclass(frozen=True)
class LaneLine:
    """The border between two lanes, or of the outermost one: constant `offset` d on a road, painted or not.

    direction: of the lanes that it borders, as in `Lane`; 0 for the axis of a road, which borders both. width_m: of one
    stripe. dash: length and period of dashes in metres. opacity: of the paint, 1 for new paint. worn: 0 for whole
    paint; with rising numbers up to 1 more of it is pale or gone.
    """

    road: int
    offset: float
    direction: int
    paint: Paint
    color: tuple[float, float, float] = WHITE
    width_m: float = 0.15
    dash: tuple[float, float] = (3.0, 9.0)
    opacity: float = 1.0
    worn: float = 0.0


@dataclass
class Layout:
    """Roads, lanes, paint and the places where traffic stops and people cross.

    kind: straight, curve or crossing. gaps: per road the intervals of s that belong to a junction. green: index of the
    road that has a green light. lines: the borders of the lanes, in the streets of `lane_streets` alone.
    """

    kind: str
    roads: list[Road]
    lanes: list[Lane]
    decals: list[Decal] = field(default_factory=list)
    gaps: list[list[tuple[float, float]]] = field(default_factory=list)
    crosswalks: list[Crosswalk] = field(default_factory=list)
    stop_lines: list[StopLine] = field(default_factory=list)
    areas: list[Area] = field(default_factory=list)
    green: int = 0
    lines: list[LaneLine] = field(default_factory=list)

    def on_road(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Tells for points (N, 2) whether they lie on a carriageway or sidewalk, (N,) bool."""
        inside = np.zeros(len(points), bool)
        for road in self.roads:
            s, d = road.locate(points).T
            inside |= (s > road.s_min) & (s < road.s_max) & (np.abs(d) < road.outer + margin)
        return inside

    def pieces(self, number: int) -> list[tuple[float, float]]:
        """Returns the stretches of a road, from s to s, that carry ordinary markings."""
        road = self.roads[number]
        cuts = [(low - 4.6, high + 4.6) for low, high in self.gaps[number]]
        if not self.gaps[number]:
            cuts += [(c.start_m - 1.6, c.end_m + 1.6) for c in self.crosswalks if c.road == number]
        pieces, start = [], road.s_min
        for low, high in sorted(cuts):
            pieces.append((start, low))
            start = high
        return [*pieces, (start, road.s_max)]

    def in_junction(self, road: int, s: float, margin: float = 0.0) -> bool:
        """Tells whether s lies in a junction of the road, widened by `margin` metres."""
        return any(low - margin < s < high + margin for low, high in self.gaps[road])


def make_layout(rng: np.random.Generator, length_m: float, islands: bool = False) -> Layout:
    """Draws a street network whose road 0 passes the origin and continues for `length_m` metres ahead.

    islands: the directions of its roads are apart, with room for a traffic island.
    """
    kind = str(rng.choice(['straight', 'curve', 'crossing'], p=[0.3, 0.25, 0.45]))
    side = 1 if rng.random() < 0.75 else -1
    radius = 0.0
    ahead, behind = length_m + 160.0, -160.0
    if kind == 'curve':
        radius = float(rng.choice([-1, 1]) * rng.uniform(90, 320))
        limit = 2.7 * abs(radius)
        ahead, behind = min(ahead, limit), max(behind, -limit)
    main = _draw_road(rng, side, Axis(0.0, 0.0, 0.0, radius, behind, ahead), islands)
    layout = Layout(kind, [main], [])
    if kind == 'crossing':
        at = float(rng.uniform(14, 55 + 0.4 * length_m))
        angle = np.pi / 2 + rng.normal(0, 0.12)
        layout.roads.append(_draw_road(rng, side, Axis(at, 0.0, angle, 0.0, -150.0, 150.0), islands))
        layout.green = int(rng.random() < 0.4)
        add_junction(layout, at, angle)
    else:
        layout.gaps = [[]]
        if rng.random() < 0.5:
            at = float(rng.uniform(10, 45))
            layout.crosswalks.append(Crosswalk(0, at, at + 3.0))
            layout.stop_lines += [StopLine(0, 1, at - 1.6), StopLine(0, -1, at + 4.6)]
    for number, road in enumerate(layout.roads):
        for k in range(road.lanes):
            for direction in (1, -1):
                offset = road.island + (k + 0.5) * road.lane_width
                layout.lanes.append(Lane(number, -direction * side * offset, direction))
    _paint(rng, layout)
    return layout


def _draw_road(rng: np.random.Generator, side: int, axis: Axis, islands: bool) -> Road:
    """Draws the cross section of a road."""
    lanes = int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2]))
    parking = float(rng.uniform(2.3, 2.7)) if rng.random() < 0.65 else 0.35
    lane_width, sidewalk = float(rng.uniform(3.05, 3.6)), float(rng.uniform(2.2, 5))
    road = Road(**vars(axis), lanes=lanes, lane_width=lane_width, parking=parking, sidewalk=sidewalk, side=side)
    return replace(road, island=float(rng.uniform(0.5, 1.1))) if islands else road


def add_junction(layout: Layout, at: float, angle_rad: float) -> None:
    """Adds gaps, crosswalks and stop lines where road 1 crosses road 0 at s = `at` under an angle."""
    first, second = layout.roads
    spread = 1.0 / abs(np.sin(angle_rad))
    lean = abs(np.cos(angle_rad)) * spread
    half_0 = second.half * spread + first.half * lean + 1.0
    half_1 = first.half * spread + second.half * lean + 1.0
    layout.gaps = [[(at - half_0, at + half_0)], [(-half_1, half_1)]]
    for number, (low, high) in ((0, layout.gaps[0][0]), (1, layout.gaps[1][0])):
        layout.crosswalks += [Crosswalk(number, low - 3.2, low), Crosswalk(number, high, high + 3.2)]
        layout.stop_lines += [StopLine(number, 1, low - 4.6), StopLine(number, -1, high + 4.6)]


def _paint(rng: np.random.Generator, layout: Layout) -> None:
    middle = YELLOW if rng.random() < 0.5 else WHITE
    edge_color = WHITE if rng.random() < 0.75 else YELLOW
    wear = float(rng.uniform(0.65, 1.0))
    style = int(rng.integers(3))

    def add(road: int, s0: float, s1: float, d0: float, d1: float, **paint: Any) -> None:
        layout.decals.append(Decal(road, s0, s1, d0, d1, **{'opacity': wear, **paint}))

    for number, road in enumerate(layout.roads):
        for _ in range(int(rng.integers(2, 7))):
            s, d = rng.uniform(-80, 120), rng.uniform(-road.half, road.half - 2)
            tone = float(rng.uniform(0.02, 0.07))
            add(number, s, s + rng.uniform(2, 14), d, d + rng.uniform(1, 3.2), color=(tone, tone, tone), opacity=0.5)
        for s0, s1 in layout.pieces(number):
            if style == 0 or road.island:
                add(number, s0, s1, -0.22 - road.island, -0.08 - road.island, color=middle)
                add(number, s0, s1, 0.08 + road.island, 0.22 + road.island, color=middle)
            else:
                add(number, s0, s1, -0.08, 0.08, color=middle, dash=(0, 0) if style == 1 else (3, 9))
            for sign in (-1, 1):
                for k in range(1, road.lanes):
                    d = sign * (road.island + k * road.lane_width)
                    add(number, s0, s1, d - 0.07, d + 0.07, dash=(3, 9))
                d = sign * road.edge
                dash = (1, 2) if road.parking > 1 and style else (0, 0)
                add(number, s0, s1, d - 0.07, d + 0.07, color=edge_color, dash=dash)
    paint_crossings(layout, wear)


def paint_crossings(layout: Layout, opacity: float) -> None:
    """Paints the crosswalks and stop lines of a layout."""
    for crosswalk in layout.crosswalks:
        number, edge = crosswalk.road, layout.roads[crosswalk.road].half
        span = (crosswalk.start_m, crosswalk.end_m, -edge + 0.4, edge - 0.4)
        layout.decals.append(Decal(number, *span, bars=(0.5, 1.0), opacity=opacity))
    for line in layout.stop_lines:
        road = layout.roads[line.road]
        side = -line.direction * road.side
        low, high = sorted((side * (0.15 + road.island), side * road.edge))
        layout.decals.append(Decal(line.road, line.s_m - 0.2, line.s_m + 0.2, low, high, opacity=opacity))


def ground_arrays(layout: Layout, colors: GroundColors) -> Ground:
    """Returns what the kernels need to colour the ground."""
    painted = [decal.row() for decal in sorted(layout.decals, key=lambda decal: decal.road)]
    decals = np.array(painted, np.float64).reshape(-1, 13)
    spans = [np.searchsorted(decals[:, 0], [k, k + 1]) for k in range(len(layout.roads))]
    rows = [row + list(span) for road, span in zip(layout.roads, spans) for row in road.rows()]
    areas = np.array([area.row() for area in layout.areas], np.float64).reshape(-1, 7)
    return Ground(np.array(rows, np.float64), decals, colors, areas)
