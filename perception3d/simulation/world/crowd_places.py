"""Places with a crowd, and what its people do there: a square, a crossing, a stop with a queue, a promenade.

The sensors are at the origin and look along x. Most people are in one zone ahead of them, in groups of 1 to 4; others
are spread over the whole sector, and a few are behind the sensors. Spreads of the zones were chosen so that the
neighbours of a labelled person are as many as in STCrowd: 2.4, 8 and 15.8 within 2, 5 and 10 m.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from perception3d.simulation.render.primitives import Primitives
from perception3d.simulation.world.crowd_furniture import BENCH_M, bench, shelter, single_thing
from perception3d.simulation.world.crowd_motion import Group
from perception3d.simulation.world.road import Axis, Crosswalk, Layout, Road, paint_crossings

KINDS = ('square', 'crossing', 'stop', 'promenade')
GROUP_ODDS = (0.38, 0.38, 0.15, 0.09)
"""How often groups have 1, 2, 3 and 4 members."""
RIG_M = 2.0
"""Nobody comes nearer to the sensors, whose vehicle is there."""
MIDDLE_M = ((9.0, 15.0), (-4.0, 4.0))
"""Where the middle of a zone is: lowest and highest x and y."""
SCATTERED = 0.16
"""Share of the people who are not in the zone."""


@dataclass
class Place:
    """A place in the making.

    Attributes:
        layout: road and pavement.
        middle: (2,) of the zone; spread (2,): of the people in x and y, metres.
        groups: the people. obstacles: x, y and radius of what they walk around. furniture: its solids.
    """

    rng: np.random.Generator
    kind: str
    layout: Layout
    middle: np.ndarray
    spread: np.ndarray
    duration_s: float
    groups: list[Group] = field(default_factory=list)
    obstacles: list[tuple[float, float, float]] = field(default_factory=lambda: [(0.0, 0.0, RIG_M), (-2.0, 0.0, RIG_M)])
    furniture: list[Primitives] = field(default_factory=list)

    def people(self) -> int:
        """Returns how many there are so far."""
        return sum(len(group.slots) for group in self.groups)

    def spot(self) -> np.ndarray:
        """Draws a spot (2,) of the zone."""
        return self.middle + self.spread * np.clip(self.rng.normal(size=2), -2.2, 2.2)

    def put(self, solids: Primitives, spot: np.ndarray, yaw_rad: float) -> None:
        """Places furniture."""
        self.furniture.append(solids.placed(float(spot[0]), float(spot[1]), yaw_rad))

    def block(self, spot: np.ndarray, radius_m: float) -> None:
        """Keeps people away from a spot."""
        self.obstacles.append((float(spot[0]), float(spot[1]), radius_m))


def make_place(rng: np.random.Generator, kind: str, people: int, duration_s: float) -> Place:
    """Draws a place of `kind`, one of `KINDS`, with about that many people ahead of the sensors and some behind them.

    duration_s: of the scene.
    """
    place = _MAKERS[kind](rng, duration_s)
    crowd = round((1 - SCATTERED) * people)
    _FILLERS[kind](place, crowd)
    while place.people() < people:
        _scatter(place, _anywhere(rng))
    for _ in range(int(rng.integers(1, 5))):
        # Nobody labels them: a detector that is trained on whole revolutions would take them for background.
        _scatter(place, -_anywhere(rng))
    for _ in range(int(rng.integers(7, 13))):
        solids, radius = single_thing(rng)
        spot = place.spot() if rng.random() < 0.4 else _anywhere(rng)
        if np.hypot(*spot) > 3.0 and not _on_carriageway(place, spot) and not _near_seats(place, spot):
            place.put(solids, spot, float(rng.uniform(-np.pi, np.pi)))
            place.block(spot, radius)
    return place


def _near_seats(place: Place, spot: np.ndarray) -> bool:
    return any(group.seated and np.linalg.norm(group.path[0] - spot) < 2.0 for group in place.groups)


def _on_carriageway(place: Place, spot: np.ndarray) -> bool:
    road = place.layout.roads[0]
    return abs(float(road.locate(spot[None])[0, 1])) < road.half + 0.3


def _anywhere(rng: np.random.Generator) -> np.ndarray:
    """Draws a spot (2,) of the whole sector, as many per square metre everywhere."""
    distance, angle = np.sqrt(rng.uniform(3.0**2, 30.0**2)), rng.uniform(-1.45, 1.45)
    return distance * np.array([np.cos(angle), np.sin(angle)])


def _road(rng: np.random.Generator, axis: Axis, lanes: int, sidewalk: float) -> Road:
    return Road(
        **vars(axis), lanes=lanes, lane_width=float(rng.uniform(3.0, 3.5)), parking=0.35, sidewalk=sidewalk, side=1
    )


def _square(rng: np.random.Generator, duration_s: float) -> Place:
    layout = Layout('square', [_road(rng, Axis(-7.0, 0.0, np.pi / 2, 0.0, -70.0, 70.0), 1, 36.0)], [], gaps=[[]])
    middle = np.array([rng.uniform(*span) for span in MIDDLE_M])
    return Place(rng, 'square', layout, middle, rng.uniform((2.8, 3.2), (4.0, 4.4)), duration_s)


def _crossing(rng: np.random.Generator, duration_s: float) -> Place:
    road = _road(rng, Axis(0.0, 1.7, 0.0, 0.0, -70.0, 70.0), int(rng.integers(1, 3)), float(rng.uniform(5, 9)))
    layout = Layout('crossing', [road], [], gaps=[[]])
    start, width = float(rng.uniform(5.0, 9.0)), float(rng.uniform(5.0, 8.0))
    layout.crosswalks.append(Crosswalk(0, start, start + width))
    paint_crossings(layout, float(rng.uniform(0.6, 1.0)))
    middle = np.array([start + width / 2, rng.uniform(-1.5, 3.5)])
    return Place(rng, 'crossing', layout, middle, np.array([width / 2.2, rng.uniform(2.9, 3.9)]), duration_s)


def _stop(rng: np.random.Generator, duration_s: float) -> Place:
    sidewalk = float(rng.uniform(8.0, 12.0))
    road = _road(rng, Axis(0.0, 1.7, 0.0, 0.0, -70.0, 70.0), 1, sidewalk)
    layout = Layout('stop', [road], [], gaps=[[]])
    middle = np.array([rng.uniform(9.0, 14.0), 1.7 - road.half - rng.uniform(2.8, 4.2)])
    return Place(rng, 'stop', layout, middle, rng.uniform((3.9, 2.0), (5.1, 2.6)), duration_s)


def _promenade(rng: np.random.Generator, duration_s: float) -> Place:
    width = float(rng.uniform(9.0, 14.0))
    road = _road(rng, Axis(0.0, 0.0, 0.0, 0.0, -70.0, 70.0), 1, width)
    side = int(rng.choice([-1, 1]))
    road = Road(**{**vars(road), 'y': side * (road.half + width / 2 + rng.uniform(-1, 1))})
    layout = Layout('promenade', [road], [], gaps=[[]])
    middle = np.array([rng.uniform(10.0, 15.0), rng.uniform(-1.0, 1.0)])
    return Place(rng, 'promenade', layout, middle, rng.uniform((4.0, 2.4), (5.2, 3.2)), duration_s)


def _fill_square(place: Place, people: int) -> None:
    """Groups who stand and talk, and others who walk about between the spots of the zone."""
    rng = place.rng
    _add_benches(place, int(rng.integers(0, 3)))
    while place.people() < people:
        if rng.random() < 0.45:
            _add_talkers(place, place.spot())
        else:
            _add_strollers(place)


def _fill_crossing(place: Place, people: int) -> None:
    """Two flows over the road, and people who wait on both sides of it."""
    rng, road = place.rng, place.layout.roads[0]
    waiting = place.people() + round(0.25 * people)
    for side in (-1, 1):
        corner = np.array([place.middle[0], road.y + side * (road.half + 1.2)])
        while place.people() < waiting * (0.5 if side < 0 else 1.0):
            _add_talkers(place, corner + rng.normal(0, (1.5, 0.6)))
    while place.people() < people:
        _add_flow(place, np.pi / 2)


def _fill_stop(place: Place, people: int) -> None:
    """A queue along the curb, people on the benches of a shelter, and others who pass behind the queue or wait."""
    rng, road = place.rng, place.layout.roads[0]
    curb = road.y - road.half
    _add_shelter(place, np.array([place.middle[0] + rng.uniform(-3, 3), curb - 4.0]))
    _add_queue(place, np.array([place.middle[0] + rng.uniform(2.5, 5.0), curb - 0.9]), int(rng.integers(5, 11)))
    while place.people() < people:
        if rng.random() < 0.5:
            _add_talkers(place, place.spot())
        else:
            _add_flow(place, 0.0)


def _fill_promenade(place: Place, people: int) -> None:
    """Groups who walk both ways, and some who stand."""
    rng = place.rng
    _add_benches(place, int(rng.integers(0, 2)))
    while place.people() < people:
        if rng.random() < 0.2:
            _add_talkers(place, place.spot())
        else:
            _add_flow(place, 0.0)


_MAKERS = {'square': _square, 'crossing': _crossing, 'stop': _stop, 'promenade': _promenade}
_FILLERS = {'square': _fill_square, 'crossing': _fill_crossing, 'stop': _fill_stop, 'promenade': _fill_promenade}


def _members(rng: np.random.Generator) -> int:
    return 1 + int(rng.choice(4, p=GROUP_ODDS))


def _abreast(rng: np.random.Generator, members: int) -> np.ndarray:
    """Draws the slots of walkers: side by side, four of them often two by two."""
    across, rows = members, 1
    if members == 4 and rng.random() < 0.6:
        across, rows = 2, 2
    gap, behind = rng.uniform(0.55, 0.75), rng.uniform(0.75, 1.05)
    left = np.tile((np.arange(across) - (across - 1) / 2) * gap, rows)
    ahead = -behind * np.repeat(np.arange(rows), across)
    return np.column_stack([ahead, left])[:members] + rng.normal(0, 0.06, (members, 2))


def _pace(rng: np.random.Generator, members: int) -> float:
    return float(np.clip(rng.normal(1.3 - 0.07 * members, 0.15), 0.6, 1.7))


def _add_strollers(place: Place) -> None:
    """Adds a group that goes from spot to spot of the zone."""
    rng, members = place.rng, _members(place.rng)
    pace = 0.8 * _pace(rng, members)
    path, length = [place.spot()], 0.0
    while length < pace * (place.duration_s + 4.0) + 4.0:
        spot = place.spot()
        step = float(np.linalg.norm(spot - path[-1]))
        if step > 2.5:
            path.append(spot)
            length += step
    place.groups.append(Group(np.array(path), pace, _abreast(rng, members), np.zeros(members), rng.uniform(0, 2.5)))


def _add_flow(place: Place, way_rad: float) -> None:
    """Adds a group that walks straight through the zone, both ways, and is near its middle halfway."""
    rng, members = place.rng, _members(place.rng)
    pace, sign = _pace(rng, members), float(rng.choice([-1, 1]))
    heading = way_rad + rng.normal(0, 0.06)
    ahead = sign * np.array([np.cos(heading), np.sin(heading)])
    # Most keep to the right.
    aside = np.array([ahead[1], -ahead[0]]) * rng.normal(0.35, 0.2)
    spot = place.spot() + aside
    reach = 40.0
    path = np.stack([spot - reach * ahead, spot + reach * ahead])
    start = reach - pace * place.duration_s / 2
    place.groups.append(Group(path, pace, _abreast(rng, members), np.zeros(members), start))


def _scatter(place: Place, spot: np.ndarray) -> None:
    """Adds a group at a spot away from the zone: most walk past it, some stand."""
    rng, members = place.rng, _members(place.rng)
    if rng.random() < 0.25:
        _add_talkers(place, spot, members)
        return
    pace, heading = _pace(rng, members), rng.uniform(-np.pi, np.pi)
    ahead = np.array([np.cos(heading), np.sin(heading)])
    path = np.stack([spot - 40.0 * ahead, spot + 40.0 * ahead])
    start = 40.0 - pace * place.duration_s * rng.uniform(0, 1)
    place.groups.append(Group(path, pace, _abreast(rng, members), np.zeros(members), start))


def _add_talkers(place: Place, spot: np.ndarray, members: int | None = None) -> None:
    """Adds people who stand in a circle and look at its middle; one alone looks anywhere."""
    rng = place.rng
    members = members or _members(rng)
    radius = (0.0, 0.0, 0.36, 0.5, 0.6)[members] * rng.uniform(0.9, 1.2)
    angle = rng.uniform(-np.pi, np.pi) + np.arange(members) * 2 * np.pi / members + rng.normal(0, 0.15, members)
    slots = radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    place.groups.append(Group(spot[None], 0.0, slots, angle + np.pi + rng.normal(0, 0.2, members)))


def _add_queue(place: Place, head: np.ndarray, members: int) -> None:
    """Adds a queue whose first one stands at `head` and looks along x; the others stand behind."""
    rng = place.rng
    ahead = -np.cumsum(rng.uniform(0.55, 0.95, members))
    slots = np.column_stack([ahead - ahead[0], rng.normal(0, 0.1, members)])
    bend = rng.normal(0, 0.08)
    slots[:, 1] += bend * slots[:, 0]
    place.groups.append(Group(head[None], 0.0, slots, bend + rng.normal(0, 0.35, members)))


def _add_benches(place: Place, count: int) -> None:
    for _ in range(count):
        away = place.spot() - place.middle
        spot = place.middle + away * (1.0 + 2.5 / max(float(np.hypot(*away)), 0.5))
        if np.hypot(*spot) > 4.0 and spot[0] > 1.0:
            _add_bench(place, spot, float(np.arctan2(-away[1], -away[0])))


def _add_bench(place: Place, spot: np.ndarray, yaw_rad: float) -> None:
    """Adds a bench, on which one to three people sit."""
    rng = place.rng
    place.put(bench(), spot, yaw_rad)
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    seats = rng.permutation(3)[: int(rng.integers(1, 4))]
    # The middle of who sits is before the bench, above the knees.
    slots = np.column_stack([np.full(len(seats), 0.2), (seats - 1) * BENCH_M[1] / 3])
    slots = slots @ np.array([[cos, sin], [-sin, cos]])
    yaws = yaw_rad + rng.normal(0, 0.1, len(seats))
    place.groups.append(Group(spot[None], 0.0, slots, yaws, seated=True))
    for along in (-0.65, 0.0, 0.65):
        place.block(spot + (-0.15 * cos - along * sin, -0.15 * sin + along * cos), 0.25)


def _add_shelter(place: Place, spot: np.ndarray) -> None:
    """Adds the shelter of a stop, open towards the street at the left, with two benches in it."""
    place.put(shelter(5.0), spot, np.pi / 2)
    for along in (-1.2, 1.2):
        _add_bench(place, spot + (along, -0.5), np.pi / 2)
    for along in np.linspace(-2.5, 2.5, 11):
        place.block(spot + (along, -0.85), 0.15)
