"""Streets, bodies and traffic: nothing overlaps, boxes are tight, scenes do not depend on each other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from perception3d.simulation.render.ground import road_coordinates
from perception3d.simulation.render.primitives import BOX, ELLIPSOID, Primitives
from perception3d.simulation.world.agents import OBJECT_CLASSES, make_body
from perception3d.simulation.world.footprints import Places, collisions, overlapping, rectangle_corners
from perception3d.simulation.world.populate import EGO_FRONT_M, EGO_LENGTH_M, EGO_WIDTH_M
from perception3d.simulation.world.road import make_layout
from perception3d.simulation.world.scene import Scene, make_scene
from perception3d.simulation.world.traffic import Closure, Driver, drive


@pytest.fixture(scope='module')
def scenes() -> list[Scene]:
    return [make_scene(11, k, 4.0) for k in range(8)]


def _surface_points(solids: Primitives, rng: np.random.Generator) -> np.ndarray:
    """Random points on the solids, (N, 3)."""
    points = []
    for i in range(len(solids)):
        local = rng.uniform(-1, 1, (400, 3))
        local /= np.abs(local).max(1, keepdims=True)
        rise = (local[:, 2] + 1) / 2
        if solids.kind[i] == ELLIPSOID:
            local /= np.linalg.norm(local, axis=1, keepdims=True)
        elif solids.kind[i] == BOX:
            front, back, side = solids.taper[i]
            local[:, 0] *= 1 - np.where(local[:, 0] > 0, front, back) * rise
            local[:, 1] *= 1 - side * rise
        else:
            radius = 1 - (1 - solids.taper[i, 0]) * rise
            local[:, :2] *= (radius / np.maximum(np.hypot(local[:, 0], local[:, 1]), radius))[:, None]
        points.append(solids.center[i] + (local * solids.half[i]) @ solids.axes[i].T)
    return np.concatenate(points)


@pytest.mark.parametrize('name', sorted(OBJECT_CLASSES))
def test_box_encloses_its_solids_tightly(name: str) -> None:
    rng = np.random.default_rng(4)
    for n in range(12):
        body = make_body(rng, name, rider=name in ('bicycle', 'motorcycle') and n % 2 == 1)
        length, width, height = body.size_m
        points = _surface_points(body.solids, rng)
        low, high = points.min(0), points.max(0)
        limits = np.array([[-length / 2, -width / 2, 0], [length / 2, width / 2, height]])
        assert (low >= limits[0] - 2e-3).all() and (high <= limits[1] + 2e-3).all()
        np.testing.assert_allclose(np.stack([low, high]), limits, atol=0.08)


@pytest.mark.parametrize('name', sorted(OBJECT_CLASSES))
def test_sizes_follow_the_class(name: str) -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([make_body(rng, name).size_m for _ in range(60)])
    np.testing.assert_allclose(np.median(sizes, 0), OBJECT_CLASSES[name].mean, rtol=0.13, atol=0.08)


def test_front_and_back_of_a_car_differ() -> None:
    from perception3d.simulation.render.materials import HEAD_LAMP, TAIL_LAMP

    for name in ('car', 'truck', 'bus'):
        solids = make_body(np.random.default_rng(1), name).solids
        assert (
            solids.center[solids.material == HEAD_LAMP, 0].min()
            > 0
            > solids.center[solids.material == TAIL_LAMP, 0].max()
        )


def test_nobody_ever_overlaps(scenes: list[Scene]) -> None:
    moved = 0
    for scene in scenes:
        ego = scene.ego_track.copy()
        ego[:, :2] += EGO_FRONT_M * np.stack([np.cos(ego[:, 2]), np.sin(ego[:, 2])], -1)
        tracks = np.stack([ego] + [a.track for a in scene.agents])
        sizes = np.array([(EGO_LENGTH_M, EGO_WIDTH_M)] + [a.body.size_m[:2] for a in scene.agents])
        for t in range(0, tracks.shape[1], 3):
            rects = np.column_stack([tracks[:, t, :2], sizes, tracks[:, t, 2]])
            first, second = np.triu_indices(len(rects), 1)
            assert not overlapping(rects[first], rects[second]).any()
        moved += (np.abs(tracks[:, -1] - tracks[:, 0]).max(1) > 1).sum()
    assert moved > 100


def test_agents_are_where_their_velocity_says(scenes: list[Scene]) -> None:
    for scene in scenes[:3]:
        for time_s in (0.33, 1.72):
            step = scene.poses(time_s + 0.02) - scene.poses(time_s)
            np.testing.assert_allclose(step[:, :2] / 0.02, scene.velocities(time_s + 0.01), atol=1e-5)
            heading = scene.poses(time_s)[:, 2]
            velocity = scene.velocities(time_s)
            fast = np.linalg.norm(velocity, axis=1) > 0.5
            along = velocity[:, 0] * np.cos(heading) + velocity[:, 1] * np.sin(heading)
            np.testing.assert_allclose(along[fast], np.linalg.norm(velocity, axis=1)[fast], rtol=0.02)


def test_a_scene_does_not_depend_on_the_others() -> None:
    alone, again, other = make_scene(3, 6, 1.0), make_scene(3, 6, 1.0), make_scene(3, 7, 1.0)
    np.testing.assert_array_equal(alone.solids(0.4).center, again.solids(0.4).center)
    np.testing.assert_array_equal(alone.ego_track, again.ego_track)
    assert alone.light == again.light
    assert alone.light != other.light
    assert make_scene(4, 6, 1.0).light != alone.light


def test_scenes_differ_and_hold_every_class() -> None:
    scenes = [make_scene(0, k, 0.5) for k in range(40)]
    names, where = Counter(), Counter()
    for scene in scenes:
        ego = scene.world_from_ego(0.0)[:2, 3]
        near = np.hypot(*(scene.poses(0.0)[:, :2] - ego).T) < 50
        names.update(a.name for a, n in zip(scene.agents, near) if n)
        where.update([scene.layout.kind, scene.weather])
    assert set(names) == set(OBJECT_CLASSES)
    assert names.most_common(1)[0][0] == 'car'
    assert 8 < names['car'] / 40 < 22 and 4 < names['pedestrian'] / 40 < 16
    assert {'straight', 'curve', 'crossing', 'clear', 'rain', 'dusk'} <= set(where)


def test_traffic_brakes_for_the_one_ahead_and_the_line() -> None:
    drivers = [
        Driver(0, 60.0, 0.0, 0.01, 4.5),
        Driver(0, 20.0, 12.0, 13.0, 4.5),
        Driver(0, 0.0, 12.0, 13.0, 12.0, tow=0.0),
        Driver(1, 0.0, 10.0, 12.0, 4.5, closures=[Closure(50.0, -1e9, 6.0)]),
    ]
    q, speed = drive(drivers, 0.0, 0.1, 200)
    assert (q[0] - q[1] > 4.5).all() and (q[1] - q[2] > (4.5 + 12) / 2).all()
    assert q[3, 59] + 2.25 < 50.0 < q[3, -1]
    assert np.diff(speed, axis=1).min() > -0.75
    np.testing.assert_allclose(np.diff(q, axis=1), 0.05 * (speed[:, 1:] + speed[:, :-1]), atol=1e-9)


def test_road_coordinates_invert_the_pose() -> None:
    rng = np.random.default_rng(2)
    kinds = set()
    for _ in range(20):
        layout = make_layout(rng, 20.0)
        kinds.add(layout.kind)
        for road in layout.roads:
            s, d = rng.uniform(-70, 70, 50), rng.uniform(-20, 20, 50)
            pose = road.pose(s, d)
            np.testing.assert_allclose(road.locate(pose[:, :2]), np.stack([s, d], -1), atol=1e-8)
            table = np.array([road.row()])
            for k in range(5):
                fast = road_coordinates(table, 0, pose[k, 0], pose[k, 1])
                expected = (s[k], d[k], np.cos(pose[k, 2]), np.sin(pose[k, 2]))
                np.testing.assert_allclose(fast, expected, atol=1e-8)
    assert kinds == {'straight', 'curve', 'crossing'}


def test_rectangles_overlap_as_sampling_says() -> None:
    rng = np.random.default_rng(0)
    first = np.column_stack([rng.uniform(-3, 3, (300, 2)), rng.uniform(0.5, 5, (300, 2)), rng.uniform(-3, 3, 300)])
    second = np.column_stack([rng.uniform(-3, 3, (300, 2)), rng.uniform(0.5, 5, (300, 2)), rng.uniform(-3, 3, 300)])
    grid = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 60), np.linspace(-0.5, 0.5, 60)), -1).reshape(-1, 2)
    expected = []
    for a, b in zip(first, second):
        c, s = np.cos(a[4]), np.sin(a[4])
        points = (grid * a[2:4]) @ np.array([[c, s], [-s, c]]) + a[:2]
        c, s = np.cos(b[4]), np.sin(b[4])
        local = (points - b[:2]) @ np.array([[c, -s], [s, c]])
        expected.append((np.abs(local) <= b[2:4] / 2).all(1).any())
    assert (overlapping(first, second) == expected).mean() > 0.98
    assert rectangle_corners(first).shape == (300, 4, 2)


def test_places_refuse_what_is_taken() -> None:
    places = Places()
    assert places.claim((0, 0, 4, 2, 0.0))
    assert not places.claim((3, 0, 4, 2, 0.3))
    assert places.claim((8, 0, 4, 2, 0.3))
    assert len(places.taken) == 2


def test_collisions_name_the_pair() -> None:
    times = np.linspace(0, 1, 11)
    tracks = np.zeros((3, 11, 3))
    tracks[0, :, 0] = -10 + 20 * times
    tracks[1, :, 1] = 40.0
    tracks[2, :, 0] = 2.0
    assert collisions(tracks, np.array([[4, 2], [4, 2], [4, 2.0]])) == [(0, 2)]
    tracks[0, :, 1] = 3.0
    assert collisions(tracks, np.array([[4, 2], [4, 2], [4, 2.0]])) == []


@pytest.mark.parametrize(('options', 'sweeps'), [([], True), (['--no-sweeps'], False)])
def test_the_command_leaves_out_what_lies_between_keyframes(monkeypatch, tmp_path, options, sweeps):
    from perception3d.cli import simulate as tool

    asked = []

    def record(format_name, request, jobs):
        asked.append(request.profile.sweeps)
        return {'scenes': 1, 'made': 1, 'seconds': 0.0}

    monkeypatch.setattr(tool, 'simulate', record)
    assert tool.main(['nuscenes', '--out', str(tmp_path), '--profile', 'default', *options]) == 0
    assert asked == [sweeps]
