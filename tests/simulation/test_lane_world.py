"""Streets for lane detection: bends, painted lines under projected ones, steering, light of the nine categories."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from perception3d.simulation.lane_capture import SCENE_CLASSES, LaneImage, Sampling, record_image, sample_lanes
from perception3d.simulation.render.ground import road_coordinates
from perception3d.simulation.rig import CULANE_CAMERA, draw_forward_camera
from perception3d.simulation.world.bend import BentRoad, bent_axis
from perception3d.simulation.world.lane_scene import LaneScene, make_lane_scene
from perception3d.simulation.world.lane_streets import CATEGORIES, CITY, LANE_WHEELBASE_M
from perception3d.simulation.world.road import Paint

ROWS = np.arange(590.0, 0.0, -10.0)


def _scene(category: str, number: int = 0, duration_s: float = 0.0) -> LaneScene:
    return make_lane_scene(5, 9 * number + CATEGORIES.index(category), category, CITY, duration_s)


@lru_cache
def _image(category: str, number: int = 0, shrink: int = 4) -> tuple[LaneScene, LaneImage]:
    lanes = _scene(category, number)
    camera = draw_forward_camera(np.random.default_rng(lanes.scene.index), CULANE_CAMERA)
    return lanes, record_image(lanes, camera, 0.0, Sampling(shrink=shrink))


def _bent(bends: list[tuple[float, float]]) -> BentRoad:
    return BentRoad(
        0.0, 0.0, 0.0, 0.0, -40.0, 120.0, 2, 3.5, 0.5, 2.0, 1, pieces=bent_axis(bends, -40.0, 120.0)
    )  # fmt: skip


@pytest.mark.parametrize('bends', [[(-40, 0)], [(-40, 0), (-10, 80), (60, 0)], [(-40, -90), (20, 0), (50, 120)]])
def test_a_bent_road_has_no_kinks_and_the_ground_shows_the_same_road(bends):
    road = _bent(bends)
    s = np.linspace(-40, 120, 641)
    poses = road.pose(s, 0.0)
    # At s = 0 it is at the origin along x, and it advances by as much as s does, in the direction that it names.
    np.testing.assert_allclose(poses[np.argmin(np.abs(s))], 0.0, atol=1e-9)
    steps = np.diff(poses[:, :2], axis=0)
    middle = 0.5 * (poses[1:, 2] + poses[:-1, 2])
    np.testing.assert_allclose(steps, 0.25 * np.stack([np.cos(middle), np.sin(middle)], -1), atol=2e-4)
    across = np.linspace(-6, 6, len(s))
    places = road.pose(s, across)[:, :2]
    np.testing.assert_allclose(road.locate(places), np.stack([s, across], -1), atol=1e-8)
    rows = np.array([[*row, 0, 0] for row in road.rows()])
    found = []
    for x, y in places[1:-1]:
        options = [road_coordinates(rows, r, x, y)[:2] for r in range(len(rows))]
        found.append([p for r, p in enumerate(options) if rows[r, 6] - 1e-9 <= p[0] <= rows[r, 7] + 1e-9][0])
    np.testing.assert_allclose(found, np.stack([s, across], -1)[1:-1], atol=1e-8)


def test_the_steering_angle_is_that_of_the_driven_path():
    angles = []
    for number in range(4):
        lanes = _scene('curve', number, 4.0)
        times = np.arange(0.3, 3.7, 0.1)
        places = lanes.scene.ego_poses(times)
        yaw = np.unwrap(np.arctan2(places[:, 1, 0], places[:, 0, 0]))
        length = np.linalg.norm(np.diff(places[:, :2, 3], axis=0), axis=1)
        moving = length > 0.05
        measured = np.arctan(LANE_WHEELBASE_M * np.diff(yaw)[moving] / length[moving])
        told = np.array([lanes.steering_rad(time_s) for time_s in times])
        # Where a bend begins between two times, the measured angle lies between both.
        steady = np.abs(np.diff(told)) < 1e-6
        np.testing.assert_allclose(measured[steady[moving]], told[1:][moving & steady], rtol=2e-3, atol=1e-5)
        angles += list(told)
    assert max(angles) > 0.01 and min(angles) < -0.01


@pytest.mark.parametrize('category', ['curve', 'arrow', 'night'])
def test_painted_lines_are_brighter_than_the_road_beside_them(category):
    on, beside = [], []
    for number in range(4):
        lanes, image = _image(category, number, 2)
        camera = draw_forward_camera(np.random.default_rng(lanes.scene.index), CULANE_CAMERA)
        gray = image.image.mean(2)
        for lane in sample_lanes(lanes, camera, 0.0, np.arange(590.0), 4):
            if lane.projected.line.paint == Paint.SOLID and lane.projected.line.worn < 0.3:
                pairs = _brightness(gray, image, lane.x, camera)
                on += pairs[0]
                beside += pairs[1]
    assert len(on) > 150
    assert (np.array(on) > beside).mean() > 0.9
    assert np.mean(on) > np.mean(beside) + 12


def _brightness(gray, image, x, camera):
    """Brightness at a line, and the mean of the asphalt 0.35 m left and right of it, in the rows that show both."""
    on, beside = [], []
    for y in range(330, 580, 2):
        if not (np.isfinite(x[y]) and 200 < x[y] < 1440):
            continue
        shift = 0.35 * camera.focal / image.depth_m[y, round(x[y])]
        columns = [round(x[y]), round(x[y] - shift), round(x[y] + shift)]
        if [SCENE_CLASSES[image.classes[y, column]] for column in columns] == ['marking', 'road', 'road']:
            on.append(gray[y, columns[0]])
            beside.append(0.5 * (gray[y, columns[1]] + gray[y, columns[2]]))
    return on, beside


def test_lanes_are_annotated_left_to_right_and_under_vehicles():
    hidden = 0
    for number in range(3):
        lanes, image = _image('crowd', number)
        camera = draw_forward_camera(np.random.default_rng(lanes.scene.index), CULANE_CAMERA)
        sampled = sample_lanes(lanes, camera, 0.0, ROWS, 4)
        assert [lane.slot for lane in sampled] == sorted(lane.slot for lane in sampled)
        x = np.stack([lane.x for lane in sampled])
        assert {1, 2} <= {lane.slot for lane in sampled}
        both = np.isfinite(x).all(0)
        assert both.sum() > 5 and (np.diff(x[:, both], axis=0) > 0).all()
        # The borders of the ego lane are left and right of the middle of the image.
        borders = {lane.slot: lane.x[np.isfinite(lane.x)][0] for lane in sampled}
        assert borders[1] < 820 < borders[2]
        hidden += sum(lane.projected.visible_share(image.depth_m) < 0.8 for lane in sampled)
    assert hidden > 2


def test_categories_show_what_they_are_named_after():
    light = {name: _image(name)[1].image.mean() for name in CATEGORIES}
    assert light['night'] < 0.8 * np.median(list(light.values()))
    assert all(line.paint == Paint.NONE or line.worn > 0.9 for line in _scene('noline', 0).scene.layout.lines)
    assert _scene('noline').lines(2)[0]
    assert _scene('cross').lines(2) == ([], []) and _scene('cross').scene.layout.kind == 'crossing'
    assert len(_scene('crowd').scene.agents) > len(_scene('night').scene.agents) / 2
    assert all(np.abs([p.radius_m for p in _scene('curve', k).road().pieces]).max() < 221 for k in range(3))
    white = {name: (_image(name)[1].image > 250).all(2).mean() for name in ('hlight', 'shadow')}
    assert white['hlight'] > 0.003 > white['shadow']


def test_classes_and_depth_fit_the_image():
    lanes, image = _image('normal')
    names = {SCENE_CLASSES[k] for k in np.unique(image.classes)}
    assert {'road', 'marking', 'sky', 'vehicle', 'vegetation'} <= names
    sky = image.classes == SCENE_CLASSES.index('sky')
    assert (image.depth_m[sky] > 1e5).all() and (image.depth_m[~sky] < 401).all()
    # A flat road under a camera: depth by its height and the row.
    camera = draw_forward_camera(np.random.default_rng(lanes.scene.index), CULANE_CAMERA)
    road = image.classes == SCENE_CLASSES.index('road')
    rows, columns = np.nonzero(road[2::4, 2::4])
    rows, columns = 4 * rows + 2, 4 * columns + 2
    rays = (camera.ego_from_cam()[:3, :3] @ np.linalg.inv(camera.intrinsics()))[2]
    flat = -camera.place_m[2] / (rays[0] * columns + rays[1] * rows + rays[2])
    near = flat < 30
    np.testing.assert_allclose(image.depth_m[rows, columns][near], flat[near], rtol=0.05)
