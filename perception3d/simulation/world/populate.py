"""Places road users and obstacles in a street network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from perception3d.simulation.world.agents import Agent, Body, make_body, still
from perception3d.simulation.world.extras import pave_lot
from perception3d.simulation.world.footprints import Places, collisions
from perception3d.simulation.world.population import NUSCENES_POPULATION, RIDERS_M, Population
from perception3d.simulation.world.road import Crosswalk, Lane, Layout
from perception3d.simulation.world.traffic import Closure, Driver, drive

EGO_LENGTH_M, EGO_WIDTH_M, EGO_FRONT_M = 4.08, 1.73, 1.35
"""Size of the ego vehicle and how far the center of its box is ahead of its origin (the rear axle)."""


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
class Draft:
    """A scene in the making: all objects that were placed so far, and the ground that they occupy."""

    rng: np.random.Generator
    layout: Layout
    clock: Clock
    population: Population = NUSCENES_POPULATION
    places: Places = field(default_factory=Places)
    agents: list[Agent] = field(default_factory=list)
    closed_lanes: set[int] = field(default_factory=set)

    def body(self, name: str, rider: bool = False, worker: bool = False) -> Body:
        """Draws an object of class `name`."""
        return make_body(self.rng, name, rider, worker, self.population.classes)

    def park(self, body: Body, x: float, y: float, yaw_rad: float, margin: float = 0.25, parked: bool = True) -> bool:
        """Places a static body if its place is free; tells whether it was."""
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


def park_at_curbs(draft: Draft, low_s: float, high_s: float) -> None:
    """Fills the parking strips of every road, leaving junctions and crosswalks free."""
    rng, layout = draft.rng, draft.layout
    for number, road in enumerate(layout.roads):
        if road.parking < 1:
            continue
        for side in (-1, 1):
            fill = rng.uniform(*draft.population.curb)
            s = low_s
            while s < high_s:
                if rng.random() > fill:
                    s += rng.uniform(5.5, 7.0)
                    continue
                body = draft.body(_choose(rng, draft.population.parked))
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
                draft.park(body, x, y, yaw)


def _near_crosswalk(layout: Layout, number: int, s: float, margin: float) -> bool:
    return any(c.road == number and c.start_m - margin < s < c.end_m + margin for c in layout.crosswalks)


def fill_lots(draft: Draft, low_s: float, high_s: float) -> None:
    """Lays out car parks behind the sidewalks, with cars nose in or nose out."""
    rng, layout = draft.rng, draft.layout
    for number, road in enumerate(layout.roads):
        for side in (-1, 1):
            if rng.random() > 0.4:
                continue
            start, slots = rng.uniform(low_s, high_s - 25), int(rng.integers(5, 13))
            fill, deep = rng.uniform(0.3, 0.85), road.outer + rng.uniform(3.2, 6.5)
            if draft.population.extras:
                along = (start - 1.5, start + 2.75 * slots - 1.25)
                pave_lot(layout, number, along, (side * road.outer, side * (deep + 2.9)))
            for k in range(slots):
                s = start + 2.75 * k
                x, y, yaw = map(float, road.pose(s, side * deep))
                if layout.on_road(np.array([[x, y]]), 2.8)[0] or layout.in_junction(number, s, 8):
                    continue
                yaw += np.pi / 2 * rng.choice([-1, 1]) + rng.normal(0, 0.04)
                if rng.random() < fill:
                    draft.park(draft.body('car' if rng.random() < 0.94 else 'truck'), x, y, yaw, 0.15)
                else:
                    draft.places.claim((x, y, 5.0, 2.3, yaw), 0.0)


def work_zone(draft: Draft, near_s: float, ego_lane: int) -> None:
    """Closes a stretch at the side of a road with cones and barriers; machines and workers are behind them."""
    rng, layout = draft.rng, draft.layout
    number = int(rng.integers(len(layout.roads)))
    road = layout.roads[number]
    side = int(rng.choice([-1, 1]))
    start = float(near_s + rng.uniform(-35, 45))
    length = float(rng.uniform(14, 34))
    inner = road.edge + 0.35
    own = [i for i, lane in enumerate(layout.lanes) if lane.road == number and np.sign(lane.offset) == side]
    outermost = max(own, key=lambda i: abs(layout.lanes[i].offset))
    if road.lanes > 1 and outermost != ego_lane and rng.random() < 0.6:
        draft.closed_lanes.add(outermost)
        inner = road.edge - road.lane_width + 0.35
    outer = road.half
    if outer - inner < 1.5:
        inner, outer = road.half + 0.5, road.outer + 1.5

    def place(body: Body, s: float, d: float, angle_rad: float, margin: float = 0.1) -> None:
        if not layout.in_junction(number, s, 6) and not _near_crosswalk(layout, number, s, 3):
            x, y, yaw = map(float, road.pose(s, side * d))
            draft.park(body, x, y, yaw + angle_rad, margin)

    _fence(draft, place, start, length, inner, outer)
    if outer - inner > 2.4:
        middle = (inner + outer) / 2 + 0.3
        if rng.random() < 0.75:
            body = draft.body('construction_vehicle')
            place(body, start + length * rng.uniform(0.35, 0.6), middle, rng.choice([0, np.pi]) + rng.normal(0, 0.2))
        if rng.random() < 0.4:
            place(draft.body('truck'), start + length * 0.8, middle, 0.0 if side * road.side < 0 else np.pi)
    for _ in range(int(rng.integers(1, 4))):
        worker = draft.body('pedestrian', worker=True)
        place(worker, start + rng.uniform(2, length), rng.uniform(inner + 0.5, outer), rng.uniform(-3, 3))


def _fence(draft: Draft, place, start: float, length: float, inner: float, outer: float) -> None:
    """Places a taper of cones at both ends, then barriers or cones along the traffic side."""
    rng = draft.rng
    for k in range(5):
        share = k / 4
        place(draft.body('traffic_cone'), start - 6 + 6 * share, outer - 0.3 + share * (inner - outer + 0.3), 0.0)
        if k < 3:
            place(draft.body('traffic_cone'), start + length + 2 * k, inner + share * (outer - inner), 0.0)
    barriers = rng.random() < 0.65
    s = start + 0.6
    while s < start + length:
        if barriers:
            body = draft.body('barrier')
            place(body, s + body.size_m[1] / 2, inner, np.pi / 2 + rng.normal(0, 0.05), 0.02)
            s += body.size_m[1] + rng.uniform(0.1, 0.5)
        else:
            place(draft.body('traffic_cone'), s, inner + rng.normal(0, 0.08), rng.uniform(0, 1.5))
            s += rng.uniform(1.8, 3.2)


def median(draft: Draft, near_s: float) -> None:
    """Places a row of barriers, or of cones, on the axis of road 0."""
    rng, layout = draft.rng, draft.layout
    road, s = layout.roads[0], near_s + rng.uniform(-40, 20)
    end = s + rng.uniform(12, 45)
    name = 'barrier' if rng.random() < 0.7 else 'traffic_cone'
    while s < end:
        body = draft.body(name)
        s += body.size_m[1] + (rng.uniform(0.05, 0.3) if name == 'barrier' else rng.uniform(2, 4))
        if layout.in_junction(0, s, 6) or _near_crosswalk(layout, 0, s, 4):
            continue
        x, y, yaw = map(float, road.pose(s, 0.0))
        draft.park(body, x, y, yaw + (np.pi / 2 if rng.random() < 0.97 else -np.pi / 2), 0.0)


def racks(draft: Draft, low_s: float, high_s: float) -> None:
    """Places bicycles and motorcycles on the sidewalks, in groups."""
    rng, layout = draft.rng, draft.layout
    for _ in range(int(rng.integers(1, 4))):
        road = layout.roads[rng.integers(len(layout.roads))]
        side, s = rng.choice([-1, 1]), rng.uniform(low_s, high_s)
        name = 'bicycle' if rng.random() < 0.6 else 'motorcycle'
        angle_rad = np.pi / 2 if rng.random() < 0.7 else 0.1
        for _ in range(int(rng.integers(1, 6))):
            x, y, yaw = map(float, road.pose(s, side * (road.half + 1.3)))
            s += 0.95 if angle_rad > 1 else 2.4
            if not layout.in_junction(layout.roads.index(road), s, 3):
                draft.park(draft.body(name), x, y, yaw + angle_rad + rng.normal(0, 0.12), 0.05)


def pedestrians(draft: Draft, low_s: float, high_s: float, density: float) -> None:
    """Places people who stand and walk on the sidewalks and who cross where the traffic has to wait."""
    rng, layout = draft.rng, draft.layout
    times = draft.clock.times()
    for number, road in enumerate(layout.roads):
        for _ in range(rng.poisson(density * (high_s - low_s) / 13)):
            body = draft.body('pedestrian')
            s, d = rng.uniform(low_s, high_s), rng.uniform(road.half + 1.2, road.outer - 0.2) * rng.choice([-1, 1])
            if layout.in_junction(number, s, 1.0):
                continue
            if rng.random() < 0.3:
                x, y, yaw = map(float, road.pose(s, d))
                draft.park(body, x, y, yaw + rng.uniform(-np.pi, np.pi), 0.1, parked=False)
                continue
            pace = rng.choice([-1, 1]) * rng.uniform(0.8, 1.8)
            track = road.pose(s + pace * times, d)
            track[:, 2] += 0.0 if pace > 0 else np.pi
            if not any(layout.in_junction(number, v, 0.5) for v in (s + pace * times[0], s + pace * times[-1])):
                draft.agents.append(Agent(body, track, np.full(len(times), abs(pace))))
    for crosswalk in layout.crosswalks:
        if layout.kind == 'crossing' and crosswalk.road == layout.green:
            continue
        for _ in range(rng.poisson(1.3 * density)):
            draft.agents.append(_crossing_walker(draft, crosswalk))


def _crossing_walker(draft: Draft, crosswalk: Crosswalk) -> Agent:
    rng, times, road = draft.rng, draft.clock.times(), draft.layout.roads[crosswalk.road]
    pace, direction = rng.uniform(1.0, 1.7), rng.choice([-1, 1])
    begin = rng.uniform(-2 * road.half / pace, 2.0)
    walked = np.clip((times - begin) * pace, 0, 2 * road.half + 3)
    s = rng.uniform(crosswalk.start_m + 0.4, crosswalk.end_m - 0.4)
    track = road.pose(s, direction * (walked - road.half - 1.5))
    track[:, 2] += np.pi / 2 * direction
    moving = (walked > 0) & (walked < 2 * road.half + 3)
    return Agent(draft.body('pedestrian'), track, np.where(moving, pace, 0.0))


def riders(draft: Draft, density: float) -> None:
    """Places cyclists at the outer edge of the carriageway, with the traffic, or on the sidewalk, in any direction."""
    rng, layout, times = draft.rng, draft.layout, draft.clock.times()
    low_s, high_s = RIDERS_M
    for number, road in enumerate(layout.roads):
        for _ in range(rng.poisson(density * (high_s - low_s) / 13)):
            s, side, pace = rng.uniform(low_s, high_s), int(rng.choice([-1, 1])), rng.uniform(1.5, 6.0)
            direction = -side * road.side
            if rng.random() < 0.6:
                d = side * (road.edge - rng.uniform(0.2, 1.0))
            else:
                d = side * rng.uniform(road.half + 0.7, road.outer - 0.4)
                direction = int(rng.choice([-1, 1]))
            body = draft.body('bicycle', rider=True)
            if layout.in_junction(number, s, 1.0):
                continue
            track = road.pose(s + direction * pace * times, d)
            track[:, 2] += 0.0 if direction > 0 else np.pi
            draft.agents.append(Agent(body, track, np.full(len(times), pace)))


def _closures(draft: Draft, lane: Lane) -> list[Closure]:
    """Closed stop lines of a lane: red lights for the whole scene, crosswalks while people cross."""
    layout, closures = draft.layout, []
    for line in layout.stop_lines:
        if line.road != lane.road or line.direction != lane.direction:
            continue
        if layout.kind == 'crossing':
            if line.road != layout.green:
                closures.append(Closure(line.direction * line.s_m, -1e9, 1e9))
        else:
            closures.append(Closure(line.direction * line.s_m, -1e9, _crossing_ends(draft)))
    return closures


def _crossing_ends(draft: Draft) -> float:
    """Time at which the last pedestrian has left the carriageway on the crosswalk of road 0."""
    road, times, last = draft.layout.roads[0], draft.clock.times(), -1e9
    for agent in draft.agents:
        if agent.name != 'pedestrian' or agent.parked:
            continue
        s, d = road.locate(agent.track[:, :2]).T
        crosswalk = draft.layout.crosswalks[0]
        inside = (np.abs(d) < road.half + 0.5) & (s > crosswalk.start_m - 1) & (s < crosswalk.end_m + 1)
        if inside.any():
            last = max(last, float(times[np.flatnonzero(inside)[-1]]) + 0.5)
    return last


def choose_ego_lane(rng: np.random.Generator, layout: Layout) -> int:
    """Draws the lane of road 0 in which the ego vehicle drives; its direction is that of rising s."""
    own = [i for i, lane in enumerate(layout.lanes) if lane.road == 0 and lane.direction == 1]
    return int(rng.choice(own))


def vehicles(draft: Draft, ego_lane: int, low_s: float, high_s: float, density: float) -> np.ndarray:
    """Fills the lanes with traffic and moves it; returns the track (T, 3) of the ego vehicle's origin."""
    rng, layout, clock = draft.rng, draft.layout, draft.clock
    drivers: list[Driver] = []
    bodies: list[list[Body]] = []
    for number, lane in enumerate(layout.lanes):
        closures = _closures(draft, lane)
        if number == ego_lane:
            speed = rng.uniform(3.5, 12.0)
            drivers.append(Driver(number, EGO_FRONT_M, speed, speed * rng.uniform(1, 1.25), EGO_LENGTH_M, 0, closures))
            bodies.append([])
        low, high = sorted((lane.direction * low_s, lane.direction * high_s))
        gap = 24.0 / density
        q = low + rng.uniform(0, gap)
        while q < high and number not in draft.closed_lanes:
            train, driver = _draw_driver(draft, number, q, closures)
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
        _add_train(draft, layout.lanes[driver.lane], train, q, speed, driver)
    return layout.roads[0].pose(places[ego] - EGO_FRONT_M, layout.lanes[ego_lane].offset)


def _draw_driver(draft: Draft, lane: int, q: float, closures: list[Closure]) -> tuple[list[Body], Driver]:
    rng = draft.rng
    name = _choose(rng, draft.population.moving)
    desired = rng.uniform(6, 13)
    if name == 'trailer':
        train, tow = [draft.body('truck'), draft.body('trailer')], 0.0
        tow = train[1].size_m[0] + 0.6
    else:
        ridden = name in ('motorcycle', 'bicycle')
        train, tow = [draft.body(name, rider=ridden)], 0.0
    desired = {'bicycle': rng.uniform(2.5, 5.5), 'construction_vehicle': rng.uniform(2, 5)}.get(name, desired)
    return train, Driver(lane, q, desired * rng.uniform(0.7, 1.0), desired, train[0].size_m[0], tow, closures)


def _add_train(draft: Draft, lane: Lane, train: list[Body], q: np.ndarray, speed: np.ndarray, driver: Driver) -> None:
    road = draft.layout.roads[lane.road]
    back = 0.0
    shift = 0.0
    if train and train[0].name in ('bicycle', 'motorcycle'):
        shift = np.sign(lane.offset) * draft.rng.uniform(0.0, 0.9)
    for body in train:
        s = lane.direction * (q - back)
        track = road.pose(s, lane.offset + shift)
        track[:, 2] += 0.0 if lane.direction > 0 else np.pi
        draft.agents.append(Agent(body, track, speed))
        back = driver.length / 2 + 0.6 + (driver.tow - 0.6) / 2


def remove_collisions(agents: list[Agent], ego_track: np.ndarray) -> list[Agent]:
    """Returns the agents without those that collide with another one or with the ego vehicle.

    Of two the later one is removed, or the one that is parked.
    """
    ego = ego_track.copy()
    ego[:, :2] += EGO_FRONT_M * np.stack([np.cos(ego[:, 2]), np.sin(ego[:, 2])], -1)
    agents = sorted(agents, key=lambda a: a.parked)
    tracks = np.stack([ego] + [a.track for a in agents])
    sizes = np.array([(EGO_LENGTH_M, EGO_WIDTH_M)] + [a.body.size_m[:2] for a in agents])
    removed: set[int] = set()
    for first, second in collisions(tracks, sizes):
        if first not in removed:
            removed.add(second)
    return [agent for k, agent in enumerate(agents, start=1) if k not in removed]
