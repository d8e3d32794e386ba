"""A scene for lane detection: a street of several lanes with traffic, in the light of one of CULane's categories."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perception3d.simulation.render.materials import MATTE
from perception3d.simulation.render.primitives import Primitives, ShapeBuilder, concatenate
from perception3d.simulation.render.surfaces import Surface
from perception3d.simulation.world import populate
from perception3d.simulation.world.appearance import draw_ground_colors
from perception3d.simulation.world.bend import BentRoad
from perception3d.simulation.world.extras import fence
from perception3d.simulation.world.lane_light import LaneLight, draw_lane_light, without_lights
from perception3d.simulation.world.lane_streets import LANE_WHEELBASE_M, Site, ego_lines, make_lane_layout
from perception3d.simulation.world.population import NUSCENES_POPULATION
from perception3d.simulation.world.road import LaneLine, Layout, ground_arrays
from perception3d.simulation.world.scene import LEAD_S, STEP_S, Scene
from perception3d.simulation.world.town import build_town, tree

LANE_POPULATION = replace(
    NUSCENES_POPULATION,
    parked={'car': 0.93, 'truck': 0.04, 'motorcycle': 0.03},
    moving={'car': 0.8, 'truck': 0.06, 'bus': 0.06, 'trailer': 0.02, 'motorcycle': 0.03, 'bicycle': 0.03},
    people=0.5,
    behind_m=25.0,
)
"""Road users of city streets with several lanes; behind the ego vehicle only what may overtake or cast a shadow."""
MOTORWAY_MOVING = {'car': 0.74, 'truck': 0.14, 'bus': 0.03, 'trailer': 0.09}
VIEW_M = 95.0
"""Length of street ahead that has objects."""
DENSITY = {'crowd': (3.0, 7.0), 'night': (0.5, 2.0)}
"""Lowest and highest traffic; 0.3 to 1.4 in other categories."""


@dataclass
class LaneScene:
    """A scene with what lane detection needs in addition.

    ego_lane: index into the layout's lanes. aside_m: offset of the ego vehicle to the left of the centre of its lane.
    """

    scene: Scene
    category: str
    ego_lane: int
    aside_m: float
    light: LaneLight

    def road(self) -> BentRoad:
        """Returns the road that the ego vehicle follows."""
        road = self.scene.layout.roads[0]
        assert isinstance(road, BentRoad)
        return road

    def lines(self, most: int) -> tuple[list[LaneLine], list[LaneLine]]:
        """Returns the lines to annotate left and right, nearest first; none where a junction is ahead."""
        return ([], []) if self.category == 'cross' else ego_lines(self.scene.layout, self.ego_lane, most)

    def steering_rad(self, time_s: float) -> float:
        """Returns the angle in radians of the front wheels at a time, positive to the left.

        It is atan(wheelbase x curvature) of the path of the rear axle: the kinematic model of a car with two wheels.
        """
        road, offset = self.road(), self.scene.layout.lanes[self.ego_lane].offset + self.aside_m
        s = float(road.locate(self.scene.world_from_ego(time_s)[None, :2, 3])[0, 0])
        axis = road.curvature(s)
        return float(np.arctan(LANE_WHEELBASE_M * axis / (1.0 - axis * offset)))


def make_lane_scene(seed: int, index: int, category: str, site: Site, duration_s: float = 0.0) -> LaneScene:
    """Draws scene `index` of `seed`, valid from 0 to `duration_s` seconds."""
    rng = np.random.default_rng([seed, index, 16])
    clock = populate.Clock(-LEAD_S, STEP_S, int(np.ceil((duration_s + 2 * LEAD_S) / STEP_S)) + 2)
    travel = 14.0 * duration_s
    layout = make_lane_layout(rng, site, category, travel)
    population = replace(LANE_POPULATION, moving=MOTORWAY_MOVING) if site.motorway else LANE_POPULATION
    draft = populate.Draft(rng, layout, clock, population)
    ego_lane = populate.choose_ego_lane(rng, layout)
    low, high = -population.behind_m, VIEW_M + travel
    density = float(rng.uniform(*DENSITY.get(category, (0.3, 1.4))))
    if not site.motorway:
        populate.park_at_curbs(draft, low, high)
        populate.racks(draft, 5.0, high - 40)
        populate.pedestrians(draft, 3.0, high - 30, population.people * min(density, 2.0))
    aside = float(np.clip(rng.normal(0.0, 0.22), -0.5, 0.5))
    ego_track = populate.vehicles(draft, ego_lane, low, high, density)
    ego_track = _shifted(ego_track, aside)
    scenery = _surroundings(rng, draft, site, category, (low - 15, high + 30))
    light = draw_lane_light(rng, category, scenery)
    colors = draw_ground_colors(rng, light.light.seed)
    agents = populate.remove_collisions(draft.agents, ego_track)
    if light.night:
        agents = [without_lights(agent) if agent.parked else agent for agent in agents]
    ground = ground_arrays(layout, colors)
    noise_seed = int(rng.integers(1, 2**30))
    scene = Scene(index, noise_seed, layout, ground, light.light, light.weather, scenery, agents, ego_track, clock)
    return LaneScene(scene, category, ego_lane, aside, light)


def _shifted(track: np.ndarray, aside_m: float) -> np.ndarray:
    """Returns a track (T, 3) moved to its left."""
    shift = aside_m * np.stack([-np.sin(track[:, 2]), np.cos(track[:, 2])], -1)
    return np.concatenate([track[:, :2] + shift, track[:, 2:]], 1)


def _surroundings(
    rng: np.random.Generator, draft: populate.Draft, site: Site, category: str, reach: tuple[float, float]
) -> Primitives:
    """Draws what stands beside the road and between its directions."""
    layout = draft.layout
    styles: tuple[str, ...] = ('tall', 'mixed', 'mixed', 'low', 'park', 'open')
    if site.motorway:
        styles = ('open',)
    elif category in ('hlight', 'shadow'):
        # Low houses neither hide a low sun nor lay the whole road in their shadow.
        styles = ('low', 'park', 'open') if category == 'hlight' else ('low', 'park')
    parts = []
    road = layout.roads[0]
    if road.island:
        parts += _rail(rng, layout, 0.0, reach)
    if category == 'shadow':
        parts += _tree_rows(rng, draft, reach)
        if rng.random() < 0.4:
            parts.append(_overpass(rng, layout))
    if site.motorway:
        parts += _rail(rng, layout, road.half + 0.5, reach) + _rail(rng, layout, -road.half - 0.5, reach)
    return concatenate([build_town(rng, layout, draft.places, reach, styles=styles), *parts])


def _rail(rng: np.random.Generator, layout: Layout, d: float, reach: tuple[float, float]) -> list[Primitives]:
    """Returns a fence, a wall or a guard rail along a road, open at junctions and crosswalks."""
    road = layout.roads[0]
    design, height = str(rng.choice(['rails', 'wall'], p=[0.75, 0.25])), float(rng.uniform(0.6, 1.0))
    parts = []
    for start, end in layout.pieces(0):
        start, end = max(start, reach[0]), min(end, reach[1])
        for s in np.arange(start, end - 1.0, 4.0):
            x, y, yaw = map(float, road.pose(s + 2.0, d))
            parts.append(fence(rng, 4.0, design, height).placed(x, y, yaw))
    return parts


def _tree_rows(rng: np.random.Generator, draft: populate.Draft, reach: tuple[float, float]) -> list[Primitives]:
    """Returns rows of trees along both curbs."""
    road, parts = draft.layout.roads[0], []
    step = float(rng.uniform(5.0, 10.0))
    for side in (-1, 1):
        for s in np.arange(max(reach[0], -20.0), reach[1] - 20, step):
            x, y, yaw = map(float, road.pose(s + rng.uniform(-1, 1), side * (road.half + 0.9)))
            if draft.places.claim((x, y, 0.5, 0.5, yaw)):
                parts.append(tree(rng).placed(x, y, yaw))
    return parts


def _overpass(rng: np.random.Generator, layout: Layout) -> Primitives:
    """Returns a bridge over road 0 with its piers beside the sidewalks."""
    road, shape = layout.roads[0], ShapeBuilder(Surface.BUILDING)
    s, width = float(rng.uniform(14, 45)), float(rng.uniform(5, 14))
    height, span = float(rng.uniform(5.5, 7.5)), 2 * road.outer + 30.0
    tone = tuple(rng.uniform(0.25, 0.45) * np.array([1.0, 0.98, 0.93]))
    shape.box((0, 0, height + 0.6), (width, span, 1.2), tone, MATTE)
    for side in (-1, 1):
        shape.box((0, side * (road.outer + 1.0), height / 2), (0.7 * width, 1.0, height), tone, MATTE)
    x, y, yaw = map(float, road.pose(s, 0.0))
    return shape.build().placed(x, y, yaw + float(rng.normal(0, 0.15)))
