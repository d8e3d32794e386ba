"""A scene: one place, one light, a few seconds of traffic. Scene k of a seed does not depend on other scenes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from perception3d.simulation.render.ground import Ground, raised_mask
from perception3d.simulation.render.lidar import FLAT, Relief
from perception3d.simulation.render.primitives import Primitives, concatenate
from perception3d.simulation.render.shade import Light
from perception3d.simulation.world import populate
from perception3d.simulation.world.agents import Agent
from perception3d.simulation.world.appearance import draw_ground_colors, draw_light
from perception3d.simulation.world.extras import pave_parking_strips
from perception3d.simulation.world.population import NUSCENES_POPULATION, Population
from perception3d.simulation.world.rare_objects import park_rare_objects, ride_rare_objects
from perception3d.simulation.world.road import Layout, ground_arrays, make_layout
from perception3d.simulation.world.town import build_town

WORLD_VERSION = 7
"""Raise this when the same seed gives another world, so that old folders are not mixed with new ones."""

STEP_S, LEAD_S, VIEW_M = 0.1, 0.3, 95.0
"""Time step of tracks, time before and after a scene, length of street ahead that has objects."""


@dataclass
class Scene:
    """Everything about one scene, in its own frame: road 0 starts at the origin along x, z up, metres, seconds.

    scenery: solids of no agent. agents: the annotated objects. ego_track (T, 3): x, y, yaw of the ego vehicle's
    origin on the `clock`. rng_seed: for sensor noise. relief: of the ground and of leaves, for a LiDAR.
    """

    index: int
    rng_seed: int
    layout: Layout
    ground: Ground
    light: Light
    weather: str
    scenery: Primitives
    agents: list[Agent]
    ego_track: np.ndarray
    clock: populate.Clock
    relief: Relief = FLAT

    def __post_init__(self) -> None:
        bodies = [agent.body.solids.owned_by(i) for i, agent in enumerate(self.agents)]
        self._bodies = concatenate(bodies)
        tracks = np.stack([a.track for a in self.agents]) if self.agents else np.zeros((0, self.clock.steps, 3))
        self._tracks = np.concatenate([tracks[..., :2], np.unwrap(tracks[..., 2:], axis=1)], -1)
        self._ego = np.concatenate([self.ego_track[:, :2], np.unwrap(self.ego_track[:, 2:], axis=0)], -1)

    def poses(self, time_s: float | np.ndarray) -> np.ndarray:
        """Returns x, y, yaw (A, 3) of every agent's box at a time, or at a time of its own for each agent (A,)."""
        place = np.clip((np.asarray(time_s) - self.clock.start_s) / self.clock.step_s, 0, self.clock.steps - 1.0001)
        place = np.broadcast_to(place, len(self.agents))
        k, each = place.astype(int), np.arange(len(self.agents))
        before, after = self._tracks[each, k], self._tracks[each, k + 1]
        return before + (place - k)[:, None] * (after - before)

    def ground_heights(self, places: np.ndarray) -> np.ndarray:
        """Returns the height (N,) in metres of the ground at places (N, 2)."""
        if not self.relief.curb_m:
            return np.zeros(len(places))
        return self.relief.curb_m * raised_mask(self.ground.roads, self.ground.decals, places)

    def velocities(self, time_s: float) -> np.ndarray:
        """Returns the agents' true velocities (A, 2) in m/s at a time."""
        return (self.poses(time_s + 1e-3) - self.poses(time_s - 1e-3))[:, :2] / 2e-3

    def speeds(self, time_s: float) -> np.ndarray:
        """Returns the agents' speeds (A,) in m/s at a time."""
        return np.linalg.norm(self.velocities(time_s), axis=1)

    def world_from_ego(self, time_s: float) -> np.ndarray:
        """Returns the pose (4, 4) of the ego vehicle's origin (rear axle, on the ground) at a time."""
        return self.ego_poses(np.array([time_s]))[0]

    def ego_poses(self, times_s: np.ndarray) -> np.ndarray:
        """Returns the poses (N, 4, 4) of the ego vehicle's origin at N times."""
        grid = self.clock.times()
        x, y, yaw = (np.interp(times_s, grid, self._ego[:, k]) for k in range(3))
        poses = np.zeros((len(times_s), 4, 4))
        poses[:, 0, 0], poses[:, 0, 1], poses[:, 0, 3] = np.cos(yaw), -np.sin(yaw), x
        poses[:, 1, 0], poses[:, 1, 1], poses[:, 1, 3] = np.sin(yaw), np.cos(yaw), y
        poses[:, 2, 2] = poses[:, 3, 3] = 1.0
        return poses

    def solids(self, time_s: float) -> Primitives:
        """Returns every solid in the scene's frame at a time: the scenery first, then the agents'."""
        bodies = self._bodies
        x, y, yaw = self.poses(time_s)[bodies.owner].T
        rotation = np.zeros((len(bodies), 3, 3))
        rotation[:, 0, 0], rotation[:, 0, 1] = np.cos(yaw), -np.sin(yaw)
        rotation[:, 1, 0], rotation[:, 1, 1] = np.sin(yaw), np.cos(yaw)
        rotation[:, 2, 2] = 1.0
        moved = {f.name: getattr(bodies, f.name) for f in fields(Primitives)}
        heights = self.ground_heights(self.poses(time_s)[:, :2])
        offset = np.stack([x, y, heights[bodies.owner]], -1)
        moved['center'] = (np.einsum('nij,nj->ni', rotation, bodies.center) + offset).astype(np.float32)
        moved['axes'] = np.einsum('nij,njk->nik', rotation, bodies.axes).astype(np.float32)
        return concatenate([self.scenery, Primitives(**moved)])


def make_scene(
    seed: int,
    index: int,
    duration_s: float,
    object_range_m: float = float('inf'),
    population: Population = NUSCENES_POPULATION,
) -> Scene:
    """Draws scene `index` of `seed`, valid from `LEAD_S` before 0 to `LEAD_S` after `duration_s` seconds.

    A longer scene of the same number has the same weather and style, but not the same objects. Objects that never come
    within `object_range_m` of the ego vehicle are left out.
    """
    rng = np.random.default_rng([seed, index])
    clock = populate.Clock(-LEAD_S, STEP_S, int(np.ceil((duration_s + 2 * LEAD_S) / STEP_S)) + 2)
    travel = 10.0 * duration_s
    extras = population.extras
    layout = make_layout(rng, travel, extras is not None and extras.has_islands(index))
    if extras:
        pave_parking_strips(layout)
    light, weather = draw_light(rng)
    colors = draw_ground_colors(rng, light.seed)
    density = float(rng.uniform(0.6, 1.5))
    draft = populate.Draft(rng, layout, clock, population)
    ego_lane = populate.choose_ego_lane(rng, layout)
    low, high = -population.behind_m, VIEW_M + travel
    if extras:
        park_rare_objects(draft, extras.rare_objects_of(index))
    for _ in range(1 + int(travel // 60)):
        near = rng.uniform(0, travel)
        for share in (0.85, 0.4):
            if rng.random() < share:
                populate.work_zone(draft, near, ego_lane)
        if rng.random() < 0.4:
            populate.median(draft, near)
    populate.park_at_curbs(draft, low, high)
    populate.fill_lots(draft, low, high)
    populate.racks(draft, low + 40, high - 40)
    populate.pedestrians(draft, low + 25, high - 25, density * population.people)
    if population.riders > 0:
        populate.riders(draft, density * population.riders)
    ego_track = populate.vehicles(draft, ego_lane, low, high, density)
    if extras:
        ride_rare_objects(draft, extras.rare_objects_of(index), ego_track)
    scenery = build_town(rng, layout, draft.places, (low - 30, high + 30), extras)
    agents = populate.remove_collisions(draft.agents, ego_track)
    agents = [a for a in agents if np.linalg.norm(a.track[:, :2] - ego_track[:, :2], axis=1).min() <= object_range_m]
    ground = ground_arrays(layout, colors)
    noise_seed = int(rng.integers(1, 2**30))
    relief = extras.relief if extras else FLAT
    return Scene(index, noise_seed, layout, ground, light, weather, scenery, agents, ego_track, clock, relief)
