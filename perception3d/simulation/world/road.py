"""Road axes, lanes and painted markings: straight roads, curves and crossings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from perception3d.simulation.render.ground import Ground, GroundColors

WHITE = (0.62, 0.62, 0.60)
YELLOW = (0.62, 0.42, 0.06)


@dataclass(frozen=True)
class Road:
    """One road with a straight or circular axis; s runs along it, d to its left, metres.

    radius_m: 0 for a line, positive for a left turn. lanes: per direction. `side` is 1 where traffic keeps right.
    """

    x: float
    y: float
    heading_rad: float
    radius_m: float
    s_min: float
    s_max: float
    lanes: int
    lane_width: float
    parking: float
    walk: float
    side: int

    @property
    def edge(self) -> float:
        """Distance of the outer lane edge from the axis."""
        return self.lanes * self.lane_width

    @property
    def half(self) -> float:
        """Half width of the carriageway, parking strips included."""
        return self.edge + self.parking

    @property
    def outer(self) -> float:
        """Distance of the pavement's outer edge from the axis."""
        return self.half + self.walk

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
        reach = self.radius_m - d
        return np.stack([center_x + reach * np.sin(angle), center_y - reach * np.cos(angle), angle], -1)

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
        kind = 0.0 if self.radius_m == 0 else 1.0
        turn = [np.cos(self.heading_rad), np.sin(self.heading_rad)]
        return [kind, self.x, self.y, *turn, self.radius_m, self.s_min, self.s_max, self.half, self.outer]


@dataclass(frozen=True)
class Lane:
    """A lane: constant `offset` d on a road; traffic runs in the direction of rising s (1) or against it (-1)."""

    road: int
    offset: float
    direction: int


@dataclass
class Layout:
    """Roads, lanes, paint and the places where traffic stops and people cross.

    kind: straight, curve or crossing. gaps: per road the intervals of s that belong to a junction. crosswalks: (road,
    s0, s1). stop_lines: (road, direction, s). green: index of the road that has a green light.
    """

    kind: str
    roads: list[Road]
    lanes: list[Lane]
    decals: list[list[float]] = field(default_factory=list)
    gaps: list[list[tuple[float, float]]] = field(default_factory=list)
    crosswalks: list[tuple[int, float, float]] = field(default_factory=list)
    stop_lines: list[tuple[int, int, float]] = field(default_factory=list)
    green: int = 0

    def on_road(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Tells for points (N, 2) whether they lie on a carriageway or pavement, (N,) bool."""
        found = np.zeros(len(points), bool)
        for road in self.roads:
            s, d = road.locate(points).T
            found |= (s > road.s_min) & (s < road.s_max) & (np.abs(d) < road.outer + margin)
        return found

    def in_junction(self, road: int, s: float, margin: float = 0.0) -> bool:
        """Tells whether s lies in a junction of the road, widened by `margin` metres."""
        return any(low - margin < s < high + margin for low, high in self.gaps[road])

    def lane_lines(self, step_m: float = 1.0) -> list[np.ndarray]:
        """Returns the painted lines between lanes as polylines (N, 2) in world metres, for lane data sets."""
        lines = []
        for road in self.roads:
            s = np.arange(road.s_min, road.s_max, step_m)
            for k in range(-road.lanes, road.lanes + 1):
                lines.append(road.pose(s, k * road.lane_width)[:, :2])
        return lines


def make_layout(rng: np.random.Generator, length_m: float) -> Layout:
    """Draws a street network whose road 0 runs through the origin and lasts for `length_m` metres ahead."""
    kind = str(rng.choice(['straight', 'curve', 'crossing'], p=[0.3, 0.25, 0.45]))
    side = 1 if rng.random() < 0.75 else -1
    radius = 0.0
    ahead, behind = length_m + 160.0, -160.0
    if kind == 'curve':
        radius = float(rng.choice([-1, 1]) * rng.uniform(90, 320))
        limit = 2.7 * abs(radius)
        ahead, behind = min(ahead, limit), max(behind, -limit)
    main = _cross_section(rng, side, 0.0, 0.0, 0.0, radius, behind, ahead)
    layout = Layout(kind, [main], [])
    if kind == 'crossing':
        at = float(rng.uniform(14, 55 + 0.4 * length_m))
        turn = np.pi / 2 + rng.normal(0, 0.12)
        layout.roads.append(_cross_section(rng, side, at, 0.0, turn, 0.0, -150.0, 150.0))
        layout.green = int(rng.random() < 0.4)
        _add_junction(layout, at, turn)
    else:
        layout.gaps = [[]]
        if rng.random() < 0.5:
            at = float(rng.uniform(10, 45))
            layout.crosswalks.append((0, at, at + 3.0))
            layout.stop_lines += [(0, 1, at - 1.6), (0, -1, at + 4.6)]
    for number, road in enumerate(layout.roads):
        for k in range(road.lanes):
            for direction in (1, -1):
                layout.lanes.append(Lane(number, -direction * side * (k + 0.5) * road.lane_width, direction))
    _paint(rng, layout)
    return layout


def _cross_section(rng, side, x, y, heading, radius, s_min, s_max) -> Road:
    lanes = int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2]))
    parking = float(rng.uniform(2.3, 2.7)) if rng.random() < 0.65 else 0.35
    return Road(
        x,
        y,
        heading,
        radius,
        s_min,
        s_max,
        lanes,
        float(rng.uniform(3.05, 3.6)),
        parking,
        float(rng.uniform(2.2, 5)),
        side,
    )


def _add_junction(layout: Layout, at: float, turn: float) -> None:
    first, second = layout.roads
    spread = 1.0 / abs(np.sin(turn))
    lean = abs(np.cos(turn)) * spread
    reach_0 = second.half * spread + first.half * lean + 1.0
    reach_1 = first.half * spread + second.half * lean + 1.0
    layout.gaps = [[(at - reach_0, at + reach_0)], [(-reach_1, reach_1)]]
    for number, (low, high) in ((0, layout.gaps[0][0]), (1, layout.gaps[1][0])):
        layout.crosswalks += [(number, low - 3.2, low), (number, high, high + 3.2)]
        layout.stop_lines += [(number, 1, low - 4.6), (number, -1, high + 4.6)]


def _pieces(layout: Layout, number: int) -> list[tuple[float, float]]:
    """Stretches of a road that carry ordinary markings."""
    road = layout.roads[number]
    cuts = [(low - 4.6, high + 4.6) for low, high in layout.gaps[number]]
    cuts += [(s0 - 1.6, s1 + 1.6) for n, s0, s1 in layout.crosswalks if n == number and not layout.gaps[number]]
    pieces, start = [], road.s_min
    for low, high in sorted(cuts):
        pieces.append((start, low))
        start = high
    return [*pieces, (start, road.s_max)]


def _paint(rng: np.random.Generator, layout: Layout) -> None:
    middle = YELLOW if rng.random() < 0.5 else WHITE
    edge_color = WHITE if rng.random() < 0.75 else YELLOW
    wear = float(rng.uniform(0.65, 1.0))
    style = int(rng.integers(3))

    def add(road, s0, s1, d0, d1, color=WHITE, dash=(0, 0), bars=(0, 0), opacity=wear):
        layout.decals.append([road, s0, s1, d0, d1, *dash, *bars, *color, opacity])

    for number, road in enumerate(layout.roads):
        for _ in range(int(rng.integers(2, 7))):
            s, d = rng.uniform(-80, 120), rng.uniform(-road.half, road.half - 2)
            tone = float(rng.uniform(0.02, 0.07))
            add(number, s, s + rng.uniform(2, 14), d, d + rng.uniform(1, 3.2), (tone, tone, tone), opacity=0.5)
        for s0, s1 in _pieces(layout, number):
            if style == 0:
                add(number, s0, s1, -0.22, -0.08, middle)
                add(number, s0, s1, 0.08, 0.22, middle)
            else:
                add(number, s0, s1, -0.08, 0.08, middle, dash=(0, 0) if style == 1 else (3, 9))
            for sign in (-1, 1):
                for k in range(1, road.lanes):
                    d = sign * k * road.lane_width
                    add(number, s0, s1, d - 0.07, d + 0.07, dash=(3, 9))
                d = sign * road.edge
                add(
                    number,
                    s0,
                    s1,
                    d - 0.07,
                    d + 0.07,
                    edge_color,
                    dash=(1, 2) if road.parking > 1 and style else (0, 0),
                )
    for number, s0, s1 in layout.crosswalks:
        edge = layout.roads[number].half
        add(number, s0, s1, -edge + 0.4, edge - 0.4, bars=(0.5, 1.0))
    for number, direction, s in layout.stop_lines:
        road = layout.roads[number]
        low, high = sorted((0.15, -direction * road.side * road.edge))
        add(number, s - 0.2, s + 0.2, low, high if high > 0.2 else -0.15)


def ground_arrays(layout: Layout, colors: GroundColors) -> Ground:
    """Returns what the kernels need to colour the ground."""
    decals = np.array(sorted(layout.decals, key=lambda decal: decal[0]), np.float64)
    spans = [np.searchsorted(decals[:, 0], [k, k + 1]) for k in range(len(layout.roads))]
    rows = [road.row() + list(span) for road, span in zip(layout.roads, spans)]
    return Ground(np.array(rows, np.float64), decals, colors)
