"""The renderers against slow ones that test every ray against every solid, written on their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception3d.formats.nuscenes.simulate.profiles import NuScenesProfile
from perception3d.simulation.capture import Recorder
from perception3d.simulation.render.camera import trace
from perception3d.simulation.render.ground import GroundColors
from perception3d.simulation.render.lidar import LidarModel, scan
from perception3d.simulation.render.noise import cover_periodic
from perception3d.simulation.render.primitives import BOX, ELLIPSOID, FRUSTUM, Primitives, ShapeBuilder, Solid
from perception3d.simulation.render.raster import owner_visibility
from perception3d.simulation.render.sensor import SensorResponse, apply_sensor_response, tone_curve
from perception3d.simulation.render.surfaces import Surface
from perception3d.simulation.rig import NUSCENES_RIG, draw_rig
from perception3d.simulation.world.road import YELLOW, Decal, Layout, Road, ground_arrays
from perception3d.simulation.world.scene import make_scene

FAR = 1e6


def _slow_hit(solids: Primitives, i: int, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """First entry (R,) of rays (R, 3) from origin (R, 3) into solid i, FAR where there is none."""
    axes, half = solids.axes[i].astype(float), solids.half[i].astype(float)
    o = (origin - solids.center[i]) @ axes / half
    d = rays @ axes / half
    if solids.kind[i] == ELLIPSOID:
        a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1
        root = b * b - a * c
        return np.where(root < 0, FAR, (-b - np.sqrt(np.maximum(root, 0))) / a)
    if solids.kind[i] == BOX:
        front, back, side = solids.taper[i]
        normals = np.array(
            [[0, 0, 1], [0, 0, -1], [1, 0, front / 2], [-1, 0, back / 2], [0, 1, side / 2], [0, -1, side / 2]]
        )
        limits = np.array([1, 1, 1 - front / 2, 1 - back / 2, 1 - side / 2, 1 - side / 2])
        level, slope = o @ normals.T, d @ normals.T
        with np.errstate(divide='ignore', invalid='ignore'):
            t = (limits - level) / slope
        enter = np.where(slope < 0, t, -np.inf).max(-1)
        leave = np.where(slope > 0, t, np.inf).min(-1)
        return np.where(enter <= leave, enter, FAR)
    return _slow_frustum(o, d, float(solids.taper[i, 0]))


def _slow_frustum(o: np.ndarray, d: np.ndarray, top: float) -> np.ndarray:
    """Candidates on the wall and on both caps; the least one on the solid."""
    slope = (top - 1) / 2
    radius, radius_slope = (1 + top) / 2 + slope * o[:, 2], slope * d[:, 2]
    a = d[:, 0] ** 2 + d[:, 1] ** 2 - radius_slope**2
    b = o[:, 0] * d[:, 0] + o[:, 1] * d[:, 1] - radius * radius_slope
    c = o[:, 0] ** 2 + o[:, 1] ** 2 - radius**2
    root = np.sqrt(np.maximum(b * b - a * c, 0))
    found = []
    for t, cap in [
        ((-b - root) / a, None),
        ((-b + root) / a, None),
        ((1 - o[:, 2]) / d[:, 2], top),
        ((-1 - o[:, 2]) / d[:, 2], 1),
    ]:
        p = o + t[:, None] * d
        if cap is None:
            valid = (b * b >= a * c) & (np.abs(p[:, 2]) <= 1)
        else:
            valid = np.hypot(p[:, 0], p[:, 1]) <= cap
        found.append(np.where(valid & (t > 0), t, FAR))
    return np.min(found, axis=0)


def _slow_image(solids: Primitives, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth and id per ray (R,): every ray against the ground and every solid."""
    with np.errstate(divide='ignore'):
        depth = np.where(rays[:, 2] < 0, -origin[:, 2] / rays[:, 2], FAR)
    ids = np.where(depth < 400, -1, -2)
    depth = np.where(depth < 400, depth, FAR)
    for i in range(len(solids)):
        t = _slow_hit(solids, i, origin, rays)
        closer = (t > 0.15) & (t < depth)
        depth, ids = np.where(closer, t, depth), np.where(closer, i, ids)
    return depth, ids


def _clutter(count: int, seed: int) -> Primitives:
    rng = np.random.default_rng(seed)
    shape = ShapeBuilder()
    for n in range(count):
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        rotation[:, 0] *= np.linalg.det(rotation)
        taper = (rng.uniform(0, 1), rng.uniform(0, 0.6), rng.uniform(0, 0.6))
        place = (rng.uniform(-25, 25), rng.uniform(-25, 25), rng.uniform(0, 4))
        shape.add(Solid(n % 3, place, rng.uniform(0.3, 6, 3), (0.5, 0.5, 0.5), 0, taper, rotation))
    return shape.build()


@pytest.fixture(scope='module')
def recorder() -> Recorder:
    profile = NuScenesProfile('test', 160, 60, 1, 2, False, 1, 0, 0.3, 90)
    scene = make_scene(5, 3, 0.5)
    return Recorder(scene, draw_rig(np.random.default_rng(0), NUSCENES_RIG, 160, 60), profile)


@pytest.mark.parametrize('seed', [0, 1])
def test_image_equals_every_ray_against_every_solid(seed: int) -> None:
    solids = _clutter(45, seed)
    assert set(solids.kind) == {BOX, ELLIPSOID, FRUSTUM}
    camera = replace(
        NUSCENES_RIG.cameras[0], yaw_rad=0.4 + 2 * seed, pitch_rad=-0.05, focal=28.0, principal_point=(39.0, 20.0)
    )
    k, pose = camera.intrinsics(), camera.ego_from_cam()
    depth, ids, _ = trace(solids, pose, k, 45, 80)
    v, u = np.mgrid[:45, :80]
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(k).T @ pose[:3, :3].T
    slow_depth, slow_ids = _slow_image(solids, np.broadcast_to(pose[:3, 3], rays.shape), rays)
    same = ids.ravel() == slow_ids
    # Pixels on an edge may fall to either side in single precision.
    assert same.mean() > 0.998
    assert len(np.unique(slow_ids)) > 12
    np.testing.assert_allclose(depth.ravel()[same], slow_depth[same], rtol=2e-4)


def test_lidar_equals_every_ray_against_every_solid() -> None:
    solids = _clutter(40, 7)
    rng = np.random.default_rng(1)
    velocity = rng.normal(0, 8, (40, 2))
    lidar = LidarModel(tuple(np.deg2rad([-25.0, -12, -5, -1, 2, 8])), 120, 0.05, 0.7, 0.5, 90.0, 0.0, 0.0)
    poses = np.tile(np.eye(4), (120, 1, 1))
    poses[:, 0, 3] = np.linspace(-0.6, 0, 120)
    poses[:, 2, 3] = 1.8
    tilt = 0.02
    poses[:, 1:3, 1:3] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    scene = make_scene(0, 0, 0.1)
    sweep = scan(solids, velocity, scene.ground, lidar, poses, np.random.default_rng(0))
    beams, azimuths, offsets = np.array(lidar.elevations_rad), lidar.azimuths_rad(), lidar.column_offsets_s()
    expected = {}
    for c in range(120):
        local = np.stack([np.cos(beams) * np.cos(azimuths[c]), np.cos(beams) * np.sin(azimuths[c]), np.sin(beams)], -1)
        rays = local @ poses[c, :3, :3].T
        moved = solids.moved(np.zeros(3))
        moved.center[:, :2] += (velocity * offsets[c]).astype(np.float32)
        depth, ids = _slow_image(moved, np.broadcast_to(poses[c, :3, 3], rays.shape), rays)
        for k in range(6):
            if depth[k] < 90:
                hit = poses[c, :3, 3] + depth[k] * rays[k]
                expected[c, k] = (ids[k], (hit - poses[-1, :3, 3]) @ poses[-1, :3, :3])
    got = _by_ray(sweep, poses, azimuths)
    # Far and slanted echoes are lost by chance; each one that came back must be the right one.
    assert len(got) > 300
    wrong = [key for key in got if key not in expected or got[key][0] != expected[key][0]]
    assert len(wrong) <= 2
    for key in got.keys() - set(wrong):
        np.testing.assert_allclose(got[key][1], expected[key][1], atol=2e-3)


def _by_ray(sweep, poses: np.ndarray, azimuths: np.ndarray) -> dict:
    """Finds each point's column by its direction from the sensor's place at that column."""
    found = {}
    for point, solid in zip(sweep.points, sweep.solid):
        seen = point[:3] @ poses[-1, :3, :3].T + poses[-1, :3, 3] - poses[:, :3, 3]
        local = np.einsum('nij,ni->nj', poses[:, :3, :3], seen)
        gap = np.angle(np.exp(1j * (np.arctan2(local[:, 1], local[:, 0]) - azimuths)))
        found[int(np.argmin(np.abs(gap))), int(point[4])] = (solid, point[:3])
    return found


def _street() -> Layout:
    """A crossing of two roads: worn yellow line, dashes, a crosswalk, a patch of new asphalt."""
    roads = [
        Road(0.0, 0.0, 0.3, 0.0, -80.0, 80.0, 2, 3.2, 2.4, 3.0, 1),
        Road(20.0, 5.0, 1.9, -150.0, -60.0, 60.0, 1, 3.0, 0.4, 2.0, 1),
    ]
    layout = Layout('crossing', roads, [])
    layout.decals = [
        Decal(0, -30, 30, 0.5, 3.5, color=(0.05, 0.05, 0.05), opacity=0.5),
        Decal(0, -70, 70, -0.5, 0.5, color=YELLOW, opacity=0.65),
        Decal(0, -70, 70, 3.0, 3.4, dash=(3, 9)),
        Decal(0, 4, 10, -8.0, 8.0, bars=(0.5, 1.0), opacity=0.9),
        Decal(1, -50, 50, -0.4, 0.4, opacity=0.7),
    ]
    return layout


def _surfaces(layout: Layout, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surfaces of points (N, 2), and how far from the next edge of a surface they are, in metres."""
    found, gap = np.zeros(len(points), int), np.full(len(points), np.inf)
    for number, road in enumerate(layout.roads):
        s, d = road.locate(points).T
        found = np.where(np.abs(d) < road.outer, np.maximum(found, Surface.SIDEWALK), found)
        found = np.where(np.abs(d) < road.half + 0.25, np.maximum(found, Surface.CURB), found)
        found = np.where(np.abs(d) < road.half, np.maximum(found, Surface.ROAD), found)
        for edge in (road.outer, road.half + 0.25, road.half):
            gap = np.minimum(gap, np.abs(np.abs(d) - edge))
        for _, s0, s1, d0, d1, dash, period, bar, every, *color, _ in (
            decal.row() for decal in layout.decals if decal.road == number
        ):
            inside = (s > s0) & (s < s1) & (d > d0) & (d < d1)
            phase, bars = np.mod(s - s0, period or 1e9), np.mod(d - d0, every or 1e9)
            inside &= (phase < (dash or 1e9)) & (bars < (bar or 1e9))
            found = np.where(inside & (sum(color) > 1), Surface.MARKING, found)
            for value, edges in ((s, (s0, s1)), (d, (d0, d1)), (phase, (0, dash or -1)), (bars, (0, bar or -1))):
                gap = np.minimum(gap, np.abs(value[:, None] - edges).min(1))
    return found, gap


def test_sweep_names_the_ground_and_the_owner_of_every_point() -> None:
    layout, shape = _street(), ShapeBuilder()
    shape.box((6.0, -9.0, 1.0), (1.0, 1.0, 2.0), (0.5, 0.5, 0.5), 0)
    colors = GroundColors((0.1, 0.1, 0.1), (0.3, 0.3, 0.3), (0.5, 0.5, 0.5), (0.1, 0.1, 0.1), 2.0, 1)
    lidar = LidarModel(tuple(np.deg2rad(np.linspace(-60, -5, 24))), 720, 0.05, 0.0, 0.5, 60.0, 0.0, 0.0)
    poses = np.tile(np.eye(4), (720, 1, 1))
    poses[:, :3, 3] = 1.0, 0.0, 1.8
    ground = ground_arrays(layout, colors)
    sweep = scan(shape.build(owner=7), np.zeros((1, 2)), ground, lidar, poses, np.random.default_rng(0))
    on_ground = sweep.solid == -1
    assert (sweep.surface[~on_ground] == Surface.OBJECT).all() and (sweep.owner[~on_ground] == 7).all()
    assert (~on_ground).sum() > 20 and (sweep.owner[on_ground] == -1).all()
    points = sweep.points[on_ground, :2] + poses[0, :2, 3]
    expected, gap = _surfaces(layout, points.astype(float))
    clear = gap > 1e-3
    assert set(expected[clear]) == set(list(Surface)[:5]) and clear.mean() > 0.95
    np.testing.assert_array_equal(sweep.surface[on_ground][clear], expected[clear])


def test_range_noise_and_dropouts_do_what_they_say() -> None:
    solids = ShapeBuilder().build()
    scene = make_scene(0, 0, 0.1)
    poses = np.tile(np.eye(4), (400, 1, 1))
    poses[:, 2, 3] = 2.0
    beams = tuple(np.deg2rad([-45.0, -40.0]))
    quiet = LidarModel(beams, 400, 0.05, 0.0, 0.5, 90.0, 0.0, 0.0)
    noisy = LidarModel(beams, 400, 0.05, 0.0, 0.5, 90.0, 0.05, 0.25)
    none = np.zeros((0, 2))
    clean = scan(solids, none, scene.ground, quiet, poses, np.random.default_rng(0)).points
    rough = scan(solids, none, scene.ground, noisy, poses, np.random.default_rng(0)).points
    assert len(clean) == 800
    assert abs(len(rough) / 800 - 0.75) < 0.06
    error = np.linalg.norm(rough[:, :3], axis=1) - 2.0 / np.sin(-np.array(beams)[rough[:, 4].astype(int)])
    assert 0.04 < error.std() < 0.06
    np.testing.assert_allclose(clean[:, 2], -2.0, atol=1e-5)


def test_camera_and_lidar_see_the_same_surfaces(recorder: Recorder) -> None:
    sweep, _ = recorder.sweep(0.0)
    scene = recorder.scene
    parked = np.array([a.speed.max() < 1e-6 for a in scene.agents])
    still = (sweep.solid >= 0) & np.append(parked, True)[sweep.owner]
    world_from_lidar = scene.world_from_ego(0.0) @ recorder.rig.lidar.ego_from_lidar()
    agree = total = 0
    for camera in recorder.rig.cameras:
        pose = scene.world_from_ego(-camera.lead_s) @ camera.ego_from_cam()
        depth, _, _ = trace(scene.solids(-camera.lead_s), pose, camera.intrinsics(), camera.height, camera.width)
        points = sweep.points[still, :3] @ world_from_lidar[:3, :3].T + world_from_lidar[:3, 3]
        seen = (points - pose[:3, 3]) @ pose[:3, :3]
        uvw = seen[seen[:, 2] > 1] @ camera.intrinsics().T
        uv = np.rint(uvw[:, :2] / uvw[:, 2:]).astype(int)
        inside = ((uv >= 0) & (uv < (camera.width, camera.height))).all(1)
        here = depth[uv[inside, 1], uv[inside, 0]]
        agree += (np.abs(here - uvw[inside, 2]) < 0.03 * uvw[inside, 2] + 0.15).sum()
        total += inside.sum()
    # The two sit half a metre apart, so that edges hide different things.
    assert total > 500
    assert agree / total > 0.85


def test_visible_share_against_images_of_one_object(recorder: Recorder) -> None:
    scene, camera = recorder.scene, recorder.rig.cameras[0]
    time_s = -camera.lead_s
    solids = scene.solids(time_s)
    pose = scene.world_from_ego(time_s) @ camera.ego_from_cam()
    size = (camera.height, camera.width)
    _, ids, view = trace(solids, pose, camera.intrinsics(), *size)
    counts = owner_visibility(view, solids.owner, ids, len(scene.agents), samples=10**6)
    owners = np.where(ids >= 0, solids.owner[np.maximum(ids, 0)], -1)
    checked = 0
    for a in np.flatnonzero(counts[:, 0] > 0):
        alone = scene.agents[a].body.solids.placed(*scene.poses(time_s)[a])
        _, alone_ids, _ = trace(alone, pose, camera.intrinsics(), *size)
        assert counts[a, 1] == (owners == a).sum()
        assert abs(counts[a, 0] - (alone_ids >= 0).sum()) <= 2 + 0.02 * counts[a, 0]
        checked += 1
    assert checked >= 3


def test_images_do_not_depend_on_threads(recorder: Recorder) -> None:
    import numba

    camera, shadow = recorder.rig.cameras[0], recorder.shadow(0.0)
    before = numba.get_num_threads()
    first = recorder.camera_image(camera, 0.1, shadow).image
    numba.set_num_threads(1)
    try:
        second = recorder.camera_image(camera, 0.1, shadow).image
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(first, second)
    assert first.std() > 10


def test_shadow_falls_away_from_the_sun(recorder: Recorder) -> None:
    from perception3d.simulation.render.camera import cast_shadow
    from perception3d.simulation.render.shade import sunlit

    shape = ShapeBuilder()
    shape.box((0, 0, 2), (2, 2, 4), (0.5, 0.5, 0.5), 0)
    light = recorder.scene.light._replace(to_sun=(np.sqrt(0.5), 0.0, np.sqrt(0.5)))
    depth, frame = cast_shadow(shape.build(), light, np.zeros(2), 20.0, 0.1)
    lit = [sunlit(depth, frame, x, 0.0, 0.0, 0.05) for x in (-6.5, -4.0, -1.5, 1.5, 4.0)]
    assert lit == [1.0, 0.0, 0.0, 1.0, 1.0]


def test_sensor_response_averages_and_keeps_order() -> None:
    light = np.zeros((4, 6, 3), np.float32)
    light[:2, :2, 0] = [[0.2, 0.4], [0.6, 0.8]]
    light[2:, :, 1] = 50.0
    out = np.empty((2, 3, 3), np.uint8)
    apply_sensor_response(light, SensorResponse(2, 1.0, 0.0, 1), tone_curve(), out)
    # The corner pixel is (1/2, 1/3) widths off the center and loses light to the vignette.
    fall = 1 - 0.45 * (1 / 4 + 1 / 9)
    expected = 255 * (1 - np.exp(-0.5 * fall)) ** (1 / 2.2)
    assert abs(float(out[0, 0, 2]) - expected) <= 1
    assert out[0, 0, 0] == 0
    assert (out[1, :, 1] > 250).all()


def test_periodic_bands_against_fine_sampling() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, period = rng.uniform(-9, 9), rng.uniform(0.5, 4)
        on, width = rng.uniform(0, period), rng.uniform(0.01, period)
        samples = x + width * (np.arange(4000) + 0.5) / 4000 - width / 2
        expected = np.mean(np.mod(samples, period) < on)
        assert abs(cover_periodic(x, on, period, width) - expected) < 2e-3
