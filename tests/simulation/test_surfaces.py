"""What points lie on: pavements of areas, the surfaces of solids, and what streets with `Extras` hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from perception3d.formats.nuscenes_lidarseg.simulate.profiles import POPULATION
from perception3d.simulation.capture import SweepRecorder
from perception3d.simulation.render.ground import GroundColors
from perception3d.simulation.render.lidar import LidarModel, Relief, Sweep, scan
from perception3d.simulation.render.primitives import ShapeBuilder
from perception3d.simulation.render.surfaces import Surface
from perception3d.simulation.rig import NUSCENES_RIG
from perception3d.simulation.world.footprints import overlapping
from perception3d.simulation.world.road import Area, Decal, Layout, Road, ground_arrays
from perception3d.simulation.world.scene import Scene, make_scene

BEAMS = tuple(np.deg2rad(np.linspace(-60, -8, 16)))


@pytest.fixture(scope='module')
def scenes() -> list[Scene]:
    return [make_scene(5, k, 1.0, population=POPULATION) for k in range(3)]


def _look_down(layout: Layout, relief: Relief | None = None, shape: ShapeBuilder | None = None) -> Sweep:
    """A sweep without noise from 2 m above the origin."""
    lidar = LidarModel(BEAMS, 360, 0.05, 0.0, 0.5, 60.0, 0.0, 0.0)
    poses = np.tile(np.eye(4), (360, 1, 1))
    poses[:, 2, 3] = 2.0
    grey = (0.3, 0.3, 0.3)
    layout.decals = [Decal(0, 70.0, 71.0, 0.0, 1.0)]
    ground = ground_arrays(layout, GroundColors(grey, grey, grey, grey, 0.0, 1))
    solids = (shape or ShapeBuilder()).build()
    rng = np.random.default_rng(0)
    options = () if relief is None else (relief,)
    return scan(solids, np.zeros((len(solids), 2)), ground, lidar, poses, rng, *options)


def test_an_area_replaces_one_surface_and_reflects_in_its_own_way() -> None:
    road = Road(0.0, 0.0, 0.0, 0.0, -80.0, 80.0, 1, 3.0, 2.0, 3.0, 1)
    bare, paved = Layout('straight', [road], []), Layout('straight', [road], [])
    paved.areas = [
        Area(0, -4.0, 6.0, 3.0, 9.0, Surface.ROAD, Surface.PARKING),
        Area(0, 0.0, 5.0, -12.0, -7.0, Surface.TERRAIN, Surface.PARKING),
    ]
    before, after = _look_down(bare), _look_down(paved)
    x, y = after.points[:, 0], after.points[:, 1]
    strip = (x > -4) & (x < 6) & (y > 3) & (y < 5)
    lot = (x > 0) & (x < 5) & (y > -12) & (y < -8)
    assert strip.sum() > 50 and lot.sum() > 20
    np.testing.assert_array_equal(after.surface == Surface.PARKING, strip | lot)
    np.testing.assert_array_equal(after.surface[~strip & ~lot], before.surface[~strip & ~lot])
    # Darker than a lawn, brighter than asphalt.
    assert after.points[strip, 3].mean() > 1.3 * before.points[strip, 3].mean()
    assert after.points[lot, 3].mean() < 0.8 * before.points[lot, 3].mean()


def test_grass_is_before_the_ground_and_leaves_scatter_behind_their_surface() -> None:
    road = Road(0.0, 0.0, 0.0, 0.0, -80.0, 80.0, 1, 2.0, 0.3, 1.0, 1)
    layout, shape = Layout('straight', [road], []), ShapeBuilder(Surface.VEGETATION)
    shape.box((0.0, 6.0, 1.0), (6.0, 1.0, 2.0), (0.1, 0.2, 0.1), 7)
    smooth, rough = _look_down(layout, shape=shape), _look_down(layout, Relief(grass_m=0.05, leaves_m=0.2), shape)
    np.testing.assert_array_equal(smooth.surface, rough.surface)
    gap = np.linalg.norm(rough.points[:, :3], axis=1) - np.linalg.norm(smooth.points[:, :3], axis=1)
    lawn, leaves = smooth.surface == Surface.TERRAIN, smooth.surface == Surface.VEGETATION
    np.testing.assert_allclose(gap[~lawn & ~leaves], 0, atol=1e-5)
    assert gap[lawn].min() > -1.001 and gap[lawn].max() < 1e-5 and 0.14 < gap[leaves].mean() < 0.26
    # Grass 5 cm high on average ends the ray 5 cm above the ground.
    steep = lawn & (smooth.points[:, 2] < -0.3 * np.linalg.norm(smooth.points[:, :3], axis=1))
    assert 0.03 < (rough.points[steep, 2] - smooth.points[steep, 2]).mean() < 0.07


def test_curbs_stop_the_rays_as_small_steps_along_them_find() -> None:
    roads = [
        Road(0.0, 0.0, 0.3, 0.0, -80.0, 80.0, 1, 2.5, 0.5, 2.0, 1),
        Road(9.0, 3.0, 1.9, 60.0, -60.0, 60.0, 1, 3.0, 0.4, 2.0, 1),
    ]
    height, flat = 0.12, _look_down(Layout('crossing', roads, []))
    sweep = _look_down(Layout('crossing', roads, []), Relief(curb_m=height))
    assert len(sweep.points) == len(flat.points)
    # Where every fifth ray meets the road's plane, and 300 places on its way there from the height of the sidewalk.
    share = np.linspace(1 - height / 2.0, 1, 300)
    path = flat.points[::5, None, :3].astype(float) * share[:, None]
    surface = np.zeros(path.shape[:2], int)
    for road in roads:
        s, d = np.moveaxis(road.locate(path[..., :2].reshape(-1, 2)).reshape(*path.shape[:2], 2), -1, 0)
        surface |= (s > road.s_min) & (s < road.s_max) & (np.abs(d) < road.half)
    raised = surface == 0
    first = np.where(raised.any(1), raised.argmax(1), len(share) - 1)
    expected = path[np.arange(len(path)), first]
    gap = np.linalg.norm(sweep.points[::5, :3] - expected, axis=1)
    assert np.quantile(gap, 0.99) < 0.02 and (first == 0).sum() > 100
    face = (first > 0) & (first < len(share) - 1)
    assert face.sum() > 10 and (sweep.surface[::5][face & (gap < 0.02)] == Surface.CURB).mean() > 0.9


def test_every_solid_of_the_scenery_and_every_point_has_a_surface(scenes: list[Scene]) -> None:
    found: Counter[int] = Counter()
    for scene in scenes:
        assert (scene.scenery.surface != Surface.OBJECT).all()
        solids = scene.solids(0.0)
        assert (solids.surface[solids.owner >= 0] == Surface.OBJECT).all()
        sweep, _ = SweepRecorder(scene, NUSCENES_RIG).sweep(0.0)
        assert ((sweep.surface == Surface.OBJECT) == (sweep.owner >= 0)).all()
        assert ((sweep.solid < 0) == (sweep.surface < Surface.ISLAND)).all()
        found.update(sweep.surface.tolist())
    assert set(found) == {surface.value for surface in Surface}


def test_rare_objects_are_near_the_ego_vehicle(scenes: list[Scene]) -> None:
    extras = POPULATION.extras
    assert extras is not None
    near = 0
    # Three scenes hold all nine.
    for scene in scenes:
        gap = np.linalg.norm(scene.poses(0.5)[:, :2] - scene.world_from_ego(0.5)[:2, 3], axis=1)
        bodies = Counter((a.name, a.body.rider) for a, g in zip(scene.agents, gap) if g < 40)
        near += sum(bodies[rare.name, rare.rider] > 0 for rare in extras.rare_objects_of(scene.index))
    placed = {rare for scene in scenes for rare in extras.rare_objects_of(scene.index)}
    assert near >= 8 and placed == set(extras.rare_objects)


def test_islands_are_raised_and_nobody_drives_over_them(scenes: list[Scene]) -> None:
    scene = scenes[0]
    island = scene.scenery.surface == Surface.ISLAND
    assert island.sum() > 10 and np.allclose(2 * scene.scenery.half[island, 2], 0.15)
    axes = scene.scenery.axes[island]
    yaw = np.arctan2(axes[:, 1, 0], axes[:, 0, 0])
    rects = np.column_stack([scene.scenery.center[island, :2], 2 * scene.scenery.half[island, :2], yaw])
    vehicles = [a for a in scene.agents if a.speed.max() > 1.5 and a.name not in ('pedestrian', 'bicycle')]
    assert len(vehicles) > 3
    for agent in vehicles:
        for pose in agent.track[::5]:
            own = np.array([[pose[0], pose[1], *agent.body.size_m[:2], pose[2]]])
            assert not overlapping(np.repeat(own, len(rects), 0), rects).any(), agent.name


def test_streets_without_extras_have_none_of_it() -> None:
    scene = make_scene(5, 0, 0.5, population=replace(POPULATION, extras=None))
    assert not scene.layout.areas and scene.layout.roads[0].island == 0
    assert not np.isin(scene.scenery.surface, (Surface.ISLAND, Surface.FENCE)).any()
