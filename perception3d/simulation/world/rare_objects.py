"""Places the rare objects of a scene near the ego vehicle; see `population.Extras`."""

from __future__ import annotations

import numpy as np

from perception3d.simulation.world.agents import Agent
from perception3d.simulation.world.footprints import collisions, rectangle_corners
from perception3d.simulation.world.populate import EGO_FRONT_M, EGO_LENGTH_M, EGO_WIDTH_M, Draft
from perception3d.simulation.world.population import RareObject

PARKED_M, RIDDEN_M, TRIES = (-25.0, 30.0), (6.0, 28.0), 60
"""Where rare objects are along road 0, metres ahead of the start, and how many places are tried for each."""
WAITING = 0.3
"""Share of those with a rider that stand still."""
_SMALL_M = 2.6


def park_rare_objects(draft: Draft, rare_objects: list[RareObject]) -> None:
    """Parks those without a rider: small ones on the sidewalk, others at the curb or in a yard behind it."""
    rng, road = draft.rng, draft.layout.roads[0]
    for rare in rare_objects:
        if rare.rider:
            continue
        body = draft.body(rare.name)
        length, width = body.size_m[:2]
        for _ in range(TRIES):
            s, side = float(rng.uniform(*PARKED_M)), int(rng.choice([-1, 1]))
            if length < _SMALL_M:
                d = road.half + 1.0 + width / 2
            elif road.parking >= 1 and rng.random() < 0.6:
                d = road.half - width / 2 - 0.1
            else:
                d = road.outer + 0.6 + width / 2
            x, y, yaw = map(float, road.pose(s, side * d))
            yaw += 0.0 if -side * road.side > 0 else np.pi
            corners = rectangle_corners(np.array([[x, y, length, width, yaw]]))[0]
            in_yard = d > road.outer
            if in_yard and draft.layout.on_road(corners).any():
                continue
            if not _crosses(draft, s, length) and draft.park(body, x, y, yaw):
                break


def _crosses(draft: Draft, s: float, length_m: float) -> bool:
    """Tells whether something on road 0 would stand on a crosswalk or in a junction."""
    reach = length_m / 2 + 1.5
    on_crosswalk = any(c.road == 0 and c.start_m - reach < s < c.end_m + reach for c in draft.layout.crosswalks)
    return on_crosswalk or draft.layout.in_junction(0, s, reach)


def ride_rare_objects(draft: Draft, rare_objects: list[RareObject], ego_track: np.ndarray) -> None:
    """Lets those with a rider pass at the outer edge of the lanes; where traffic collides with them, they stay."""
    rng, road, times = draft.rng, draft.layout.roads[0], draft.clock.times()
    for rare in rare_objects:
        if not rare.rider:
            continue
        body = draft.body(rare.name, rider=True)
        for _ in range(TRIES):
            side = int(rng.choice([-1, 1]))
            direction, pace = -side * road.side, float(rng.uniform(2.5, 5.5 if rare.name == 'bicycle' else 9.0))
            # Some wait at the side of the road.
            pace = 0.0 if rng.random() < WAITING else pace
            s = float(rng.uniform(*RIDDEN_M)) - direction * pace * times[len(times) // 2]
            track = road.pose(s + direction * pace * times, side * (road.edge - rng.uniform(0.5, 1.1)))
            track[:, 2] += 0.0 if direction > 0 else np.pi
            agent = Agent(body, track, np.full(len(times), pace))
            if not _meets_ego(agent, ego_track):
                # The first agents stay where two collide.
                draft.agents.insert(0, agent)
                break


def _meets_ego(agent: Agent, ego_track: np.ndarray) -> bool:
    ego = ego_track.copy()
    ego[:, :2] += EGO_FRONT_M * np.stack([np.cos(ego[:, 2]), np.sin(ego[:, 2])], -1)
    sizes = np.array([(EGO_LENGTH_M, EGO_WIDTH_M), agent.body.size_m[:2]])
    return bool(collisions(np.stack([ego, agent.track]), sizes, 0.3))
