"""Puts road users and obstacles into a street network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from perception3d.simulation.world.agents import Agent, Body, make_body, still
from perception3d.simulation.world.footprints import Places, collisions
from perception3d.simulation.world.population import NUSCENES_POPULATION, RIDERS_M, Population
from perception3d.simulation.world.road import Lane, Layout, Road
from perception3d.simulation.world.traffic import Driver, drive

EGO_LENGTH_M, EGO_WIDTH_M, EGO_FRONT_M = 4.08, 1.73, 1.35
"""Size of the measuring car and how far the middle of its box lies ahead of its origin (the rear axle)."""


@dataclass(frozen=True)
class Clock:
    """The time grid of a scene: `steps` times from `start_s` on, `step_s` apart."""

    start_s: float
    step_s: float
    steps: int

    def times(self) -> np.ndarray:
        """Returns the grid times (steps,) in seconds."""
        return self.start_s + self.step_s * np.arange(self.steps)


@dataclass
class Crowd:
    """Everything that was put into the scene so far."""

    rng: np.random.Generator
    layout: Layout
    clock: Clock
    population: Population = NUSCENES_POPULATION
    places: Places = field(default_factory=Places)
    agents: list[Agent] = field(default_factory=list)
    closed_lanes: set[int] = field(default_factory=set)

    def body(self, name: str, rider: bool = False, worker: bool = False) -> Body:
        """Draws an object of class `name`."""
        return make_body(self.rng, name, rider, worker, self.population.kinds)

    def park(self, body: Body, x: float, y: float, yaw_rad: float, margin: float = 0.25, parked: bool = True) -> bool:
        """Leaves a body at a free place; tells whether the place was free."""
        rect = (float(x), float(y), body.size_m[0], body.size_m[1], float(yaw_rad))
        if not self.places.claim(rect, margin):
            return False
        self.agents.append(still(body, rect[0], rect[1], rect[4], self.clock.steps, parked))
        return True


def _choose(rng: np.random.Generator, odds: Mapping[str, float]) -> str:
    """Draws a name with the given odds."""
    names = list(odds)
    edges = np.cumsum(list(odds.values()))
    return names[int(np.searchsorted(edges[:-1], rng.random() * edges[-1], side='right'))]


def park_at_kerbs(crowd: Crowd, low_s: float, high_s: float) -> None:
    """Fills the parking strips of every road, leaving junctions and crosswalks free."""
    rng, layout = crowd.rng, crowd.layout
    for number, road in enumerate(layout.roads):
        if road.parking < 1:
            continue
        for side in (-1, 1):
            fill = rng.uniform(*crowd.population.kerb)
            s = low_s
            while s < high_s:
                if rng.random() > fill:
                    s += rng.uniform(5.5, 7.0)
                    continue
                body = crowd.body(_choose(rng, crowd.population.parked))
                length, width = body.size_m[:2]
                middle = s + length / 2
                s += length + rng.uniform(0.8, 2.6)
                clear = not layout.in_junction(number, middle, 6 + length / 2) and not _near_crosswalk(
                    layout, number, middle, 3 + length / 2
                )
                if not clear:
                    continue
                d = side * (road.half - width / 2 - 0.12 - rng.uniform(0, 0.15))
                x, y, yaw = map(float, road.pose(middle, d))
                along = -side * road.side
                yaw += rng.normal(0, 0.025) + (0 if along > 0 or rng.random() < 0.05 else np.pi)
                crowd.park(body, x, y, yaw)


def _near_crosswalk(layout: Layout, number: int, s: float, margin: float) -> bool:
    return any(n == number and s0 - margin < s < s1 + margin for n, s0, s1 in layout.crosswalks)


def fill_lots(crowd: Crowd, low_s: float, high_s: float) -> None:
    """Lays out car parks behind the pavements, with cars nose in or nose out."""
    rng, layout = crowd.rng, crowd.layout
    for number, road in enumerate(layout.roads):
        for side in (-1, 1):
            if rng.random() > 0.4:
                continue
            start, slots = rng.uniform(low_s, high_s - 25), int(rng.integers(5, 13))
            fill, deep = rng.uniform(0.3, 0.85), road.outer + rng.uniform(3.2, 6.5)
            for k in range(slots):
                s = start + 2.75 * k
                x, y, yaw = map(float, road.pose(s, side * deep))
                if layout.on_road(np.array([[x, y]]), 2.8)[0] or layout.in_junction(number, s, 8):
                    continue
                yaw += np.pi / 2 * rng.choice([-1, 1]) + rng.normal(0, 0.04)
                if rng.random() < fill:
                    crowd.park(crowd.body('car' if rng.random() < 0.94 else 'truck'), x, y, yaw, 0.15)
                else:
                    crowd.places.claim((x, y, 5.0, 2.3, yaw), 0.0)


def work_zone(crowd: Crowd, near_s: float, ego_lane: int) -> None:
    """Closes a stretch at the road's side with cones and barriers; machines and workers stand behind them."""
    rng, layout = crowd.rng, crowd.layout
    number = int(rng.integers(len(layout.roads)))
    road = layout.roads[number]
    side = int(rng.choice([-1, 1]))
    start = float(near_s + rng.uniform(-35, 45))
    length = float(rng.uniform(14, 34))
    inner = road.edge + 0.35
    own = [i for i, lane in enumerate(layout.lanes) if lane.road == number and np.sign(lane.offset) == side]
    outermost = max(own, key=lambda i: abs(layout.lanes[i].offset))
    if road.lanes > 1 and outermost != ego_lane and rng.random() < 0.6:
        crowd.closed_lanes.add(outermost)
        inner = road.edge - road.lane_width + 0.35
    outer = road.half
    if outer - inner < 1.5:
        inner, outer = road.half + 0.5, road.outer + 1.5

    def place(body: Body, s: float, d: float, turn: float, margin: float = 0.1) -> None:
        if not layout.in_junction(number, s, 6) and not _near_crosswalk(layout, number, s, 3):
            x, y, yaw = map(float, road.pose(s, side * d))
            crowd.park(body, x, y, yaw + turn, margin)

    _fence(crowd, place, start, length, inner, outer)
    if outer - inner > 2.4:
        middle = (inner + outer) / 2 + 0.3
        if rng.random() < 0.75:
            body = crowd.body('construction_vehicle')
            place(body, start + length * rng.uniform(0.35, 0.6), middle, rng.choice([0, np.pi]) + rng.normal(0, 0.2))
        if rng.random() < 0.4:
            place(crowd.body('truck'), start + length * 0.8, middle, 0.0 if side * road.side < 0 else np.pi)
    for _ in range(int(rng.integers(1, 4))):
        worker = crowd.body('pedestrian', worker=True)
        place(worker, start + rng.uniform(2, length), rng.uniform(inner + 0.5, outer), rng.uniform(-3, 3))


def _fence(crowd: Crowd, place, start: float, length: float, inner: float, outer: float) -> None:
    """Taper of cones at both ends, then barriers or cones along the traffic side."""
    rng = crowd.rng
    for k in range(5):
        share = k / 4
        place(crowd.body('traffic_cone'), start - 6 + 6 * share, outer - 0.3 + share * (inner - outer + 0.3), 0.0)
        if k < 3:
            place(crowd.body('traffic_cone'), start + length + 2 * k, inner + share * (outer - inner), 0.0)
    barriers = rng.random() < 0.65
    s = start + 0.6
    while s < start + length:
        if barriers:
            body = crowd.body('barrier')
            place(body, s + body.size_m[1] / 2, inner, np.pi / 2 + rng.normal(0, 0.05), 0.02)
            s += body.size_m[1] + rng.uniform(0.1, 0.5)
        else:
            place(crowd.body('traffic_cone'), s, inner + rng.normal(0, 0.08), rng.uniform(0, 1.5))
            s += rng.uniform(1.8, 3.2)


def median(crowd: Crowd, near_s: float) -> None:
    """Sets a row of barriers, or of cones, on the axis of road 0."""
    rng, layout = crowd.rng, crowd.layout
    road, s = layout.roads[0], near_s + rng.uniform(-40, 20)
    end = s + rng.uniform(12, 45)
    name = 'barrier' if rng.random() < 0.7 else 'traffic_cone'
    while s < end:
        body = crowd.body(name)
        s += body.size_m[1] + (rng.uniform(0.05, 0.3) if name == 'barrier' else rng.uniform(2, 4))
        if layout.in_junction(0, s, 6) or _near_crosswalk(layout, 0, s, 4):
            continue
        x, y, yaw = map(float, road.pose(s, 0.0))
        crowd.park(body, x, y, yaw + (np.pi / 2 if rng.random() < 0.97 else -np.pi / 2), 0.0)


def racks(crowd: Crowd, low_s: float, high_s: float) -> None:
    """Leaves bicycles and motorcycles on the pavements, in groups."""
    rng, layout = crowd.rng, crowd.layout
    for _ in range(int(rng.integers(1, 4))):
        road = layout.roads[rng.integers(len(layout.roads))]
        side, s = rng.choice([-1, 1]), rng.uniform(low_s, high_s)
        name = 'bicycle' if rng.random() < 0.6 else 'motorcycle'
        turn = np.pi / 2 if rng.random() < 0.7 else 0.1
        for _ in range(int(rng.integers(1, 6))):
            x, y, yaw = map(float, road.pose(s, side * (road.half + 1.3)))
            s += 0.95 if turn > 1 else 2.4
            if not layout.in_junction(layout.roads.index(road), s, 3):
                crowd.park(crowd.body(name), x, y, yaw + turn + rng.normal(0, 0.12), 0.05)


def pedestrians(crowd: Crowd, low_s: float, high_s: float, density: float) -> None:
    """Lets people stand and walk on the pavements and cross where the traffic has to wait."""
    rng, layout = crowd.rng, crowd.layout
    times = crowd.clock.times()
    for number, road in enumerate(layout.roads):
        for _ in range(rng.poisson(density * (high_s - low_s) / 13)):
            body = crowd.body('pedestrian')
            s, d = rng.uniform(low_s, high_s), rng.uniform(road.half + 1.2, road.outer - 0.2) * rng.choice([-1, 1])
            if layout.in_junction(number, s, 1.0):
                continue
            if rng.random() < 0.3:
                x, y, yaw = map(float, road.pose(s, d))
                crowd.park(body, x, y, yaw + rng.uniform(-np.pi, np.pi), 0.1, parked=False)
                continue
            pace = rng.choice([-1, 1]) * rng.uniform(0.8, 1.8)
            track = road.pose(s + pace * times, d)
            track[:, 2] += 0.0 if pace > 0 else np.pi
            if not any(layout.in_junction(number, v, 0.5) for v in (s + pace * times[0], s + pace * times[-1])):
                crowd.agents.append(Agent(body, track, np.full(len(times), abs(pace))))
    for number, s0, s1 in layout.crosswalks:
        if layout.kind == 'crossing' and number == layout.green:
            continue
        for _ in range(rng.poisson(1.3 * density)):
            crowd.agents.append(_crossing_walker(crowd, layout.roads[number], s0, s1))


def _crossing_walker(crowd: Crowd, road: Road, s0: float, s1: float) -> Agent:
    rng, times = crowd.rng, crowd.clock.times()
    pace, way = rng.uniform(1.0, 1.7), rng.choice([-1, 1])
    begin = rng.uniform(-2 * road.half / pace, 2.0)
    walked = np.clip((times - begin) * pace, 0, 2 * road.half + 3)
    track = road.pose(rng.uniform(s0 + 0.4, s1 - 0.4), way * (walked - road.half - 1.5))
    track[:, 2] += np.pi / 2 * way
    moving = (walked > 0) & (walked < 2 * road.half + 3)
    return Agent(crowd.body('pedestrian'), track, np.where(moving, pace, 0.0))


def riders(crowd: Crowd, density: float) -> None:
    """Lets cyclists ride along the outer edge of the carriageway with the traffic, or on the pavement either way."""
    rng, layout, times = crowd.rng, crowd.layout, crowd.clock.times()
    low_s, high_s = RIDERS_M
    for number, road in enumerate(layout.roads):
        for _ in range(rng.poisson(density * (high_s - low_s) / 13)):
            s, side, pace = rng.uniform(low_s, high_s), int(rng.choice([-1, 1])), rng.uniform(1.5, 6.0)
            way = -side * road.side
            if rng.random() < 0.6:
                d = side * (road.edge - rng.uniform(0.2, 1.0))
            else:
                d = side * rng.uniform(road.half + 0.7, road.outer - 0.4)
                way = int(rng.choice([-1, 1]))
            body = crowd.body('bicycle', rider=True)
            if layout.in_junction(number, s, 1.0):
                continue
            track = road.pose(s + way * pace * times, d)
            track[:, 2] += 0.0 if way > 0 else np.pi
            crowd.agents.append(Agent(body, track, np.full(len(times), pace)))


def _closures(crowd: Crowd, lane: Lane) -> list[tuple[float, float, float]]:
    """Stop lines of a lane in its own running metres: red lights for the whole scene, crosswalks while people cross."""
    layout, found = crowd.layout, []
    for number, direction, s in layout.stop_lines:
        if number != lane.road or direction != lane.direction:
            continue
        if layout.kind == 'crossing':
            if number != layout.green:
                found.append((direction * s, -1e9, 1e9))
        else:
            found.append((direction * s, -1e9, _crossing_ends(crowd)))
    return found


def _crossing_ends(crowd: Crowd) -> float:
    """Time at which the last pedestrian has left the carriageway of road 0's crosswalk, metres checked on the track."""
    road, times, last = crowd.layout.roads[0], crowd.clock.times(), -1e9
    for agent in crowd.agents:
        if agent.name != 'pedestrian' or agent.parked:
            continue
        s, d = road.locate(agent.track[:, :2]).T
        _, s0, s1 = crowd.layout.crosswalks[0]
        inside = (np.abs(d) < road.half + 0.5) & (s > s0 - 1) & (s < s1 + 1)
        if inside.any():
            last = max(last, float(times[np.flatnonzero(inside)[-1]]) + 0.5)
    return last


def choose_ego_lane(rng: np.random.Generator, layout: Layout) -> int:
    """Draws the lane of road 0 that the measuring car drives in; it runs towards rising s."""
    own = [i for i, lane in enumerate(layout.lanes) if lane.road == 0 and lane.direction == 1]
    return int(rng.choice(own))


def vehicles(crowd: Crowd, ego_lane: int, low_s: float, high_s: float, density: float) -> np.ndarray:
    """Fills the lanes with traffic and drives it; returns the track (T, 3) of the measuring car's origin."""
    rng, layout, clock = crowd.rng, crowd.layout, crowd.clock
    drivers: list[Driver] = []
    bodies: list[list[Body]] = []
    for number, lane in enumerate(layout.lanes):
        closures = _closures(crowd, lane)
        if number == ego_lane:
            speed = rng.uniform(3.5, 12.0)
            drivers.append(Driver(number, EGO_FRONT_M, speed, speed * rng.uniform(1, 1.25), EGO_LENGTH_M, 0, closures))
            bodies.append([])
        low, high = sorted((lane.direction * low_s, lane.direction * high_s))
        gap = 24.0 / density
        q = low + rng.uniform(0, gap)
        while q < high and number not in crowd.closed_lanes:
            train, driver = _draw_driver(crowd, number, q, closures)
            span = driver.length + driver.tow
            middle = q - driver.tow / 2
            blocked = layout.in_junction(lane.road, lane.direction * middle, span / 2 + 2)
            own = number == ego_lane and abs(middle - EGO_FRONT_M) < span / 2 + EGO_LENGTH_M / 2 + 4
            blocked |= _near_crosswalk(layout, lane.road, lane.direction * middle, span / 2 + 0.5)
            if not blocked and not own:
                drivers.append(driver)
                bodies.append(train)
            q += span / 2 + 4.5 + rng.exponential(gap) + (8.0 if driver.tow else 3.0)
    places, speeds = drive(drivers, clock.start_s, clock.step_s, clock.steps)
    ego = bodies.index([])
    for driver, train, q, speed in zip(drivers, bodies, places, speeds, strict=True):
        _add_train(crowd, layout.lanes[driver.lane], train, q, speed, driver)
    return layout.roads[0].pose(places[ego] - EGO_FRONT_M, layout.lanes[ego_lane].offset)


def _draw_driver(crowd: Crowd, lane: int, q: float, closures: list) -> tuple[list[Body], Driver]:
    rng = crowd.rng
    name = _choose(rng, crowd.population.moving)
    desired = rng.uniform(6, 13)
    if name == 'trailer':
        train, tow = [crowd.body('truck'), crowd.body('trailer')], 0.0
        tow = train[1].size_m[0] + 0.6
    else:
        ridden = name in ('motorcycle', 'bicycle')
        train, tow = [crowd.body(name, rider=ridden)], 0.0
    desired = {'bicycle': rng.uniform(2.5, 5.5), 'construction_vehicle': rng.uniform(2, 5)}.get(name, desired)
    return train, Driver(lane, q, desired * rng.uniform(0.7, 1.0), desired, train[0].size_m[0], tow, closures)


def _add_train(crowd: Crowd, lane: Lane, train: list[Body], q: np.ndarray, speed: np.ndarray, driver: Driver) -> None:
    road = crowd.layout.roads[lane.road]
    back = 0.0
    shift = 0.0
    if train and train[0].name in ('bicycle', 'motorcycle'):
        shift = np.sign(lane.offset) * crowd.rng.uniform(0.0, 0.9)
    for body in train:
        s = lane.direction * (q - back)
        track = road.pose(s, lane.offset + shift)
        track[:, 2] += 0.0 if lane.direction > 0 else np.pi
        crowd.agents.append(Agent(body, track, speed))
        back = driver.length / 2 + 0.6 + (driver.tow - 0.6) / 2


def remove_collisions(agents: list[Agent], ego_track: np.ndarray) -> list[Agent]:
    """Returns the agents without those that run into another one or into the measuring car.

    Of two the later one goes, or the one that is parked.
    """
    ego = ego_track.copy()
    ego[:, :2] += EGO_FRONT_M * np.stack([np.cos(ego[:, 2]), np.sin(ego[:, 2])], -1)
    agents = sorted(agents, key=lambda a: a.parked)
    tracks = np.stack([ego] + [a.track for a in agents])
    sizes = np.array([(EGO_LENGTH_M, EGO_WIDTH_M)] + [a.body.size_m[:2] for a in agents])
    gone: set[int] = set()
    for first, second in collisions(tracks, sizes):
        if first not in gone:
            gone.add(second)
    return [agent for k, agent in enumerate(agents, start=1) if k not in gone]
