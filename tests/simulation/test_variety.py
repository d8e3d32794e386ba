"""Scenes differ in what a detector must not rely on: height and mounting of the sensors, weather, colours, echoes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception3d.formats.nuscenes.simulate.profiles import PROFILES
from perception3d.simulation.capture import Recorder
from perception3d.simulation.render.materials import METAL, PAINT, REFLECTIVITY, RUBBER
from perception3d.simulation.render.shade import Light
from perception3d.simulation.rig import NUSCENES_RIG, Rig, draw_rig
from perception3d.simulation.world.agents import make_body
from perception3d.simulation.world.appearance import draw_ground_colors, draw_light
from perception3d.simulation.world.scene import make_scene

WEATHERS = {'clear': 0.42, 'cloudy': 0.22, 'haze': 0.12, 'rain': 0.12, 'dusk': 0.12}
CAMERAS = [camera.name for camera in NUSCENES_RIG.cameras]
TINY = PROFILES['tiny']


@pytest.fixture(scope='module')
def rigs() -> list[Rig]:
    return [draw_rig(np.random.default_rng([0, k, 77]), NUSCENES_RIG, TINY.width, TINY.height) for k in range(300)]


@pytest.fixture(scope='module')
def lights() -> dict[str, list[Light]]:
    """The lights of 400 scenes by their weather."""
    found: dict[str, list[Light]] = {weather: [] for weather in WEATHERS}
    for k in range(400):
        light, weather = draw_light(np.random.default_rng([1, k]))
        found[weather].append(light)
    return found


def _cameras(rigs: list[Rig], name: str, field: str) -> np.ndarray:
    return np.array([getattr(rig.cameras[CAMERAS.index(name)], field) for rig in rigs])


def test_vehicles_mount_their_sensors_at_different_heights(rigs: list[Rig]) -> None:
    lift = np.array([rig.lidar.place_m[2] for rig in rigs]) - NUSCENES_RIG.lidar.place_m[2]
    assert lift.min() >= -0.2 and lift.max() <= 0.3
    # Uniform over half a metre: a spread of 0.5 / sqrt(12).
    assert lift.min() < -0.18 and lift.max() > 0.28 and abs(lift.std() - 0.144) < 0.015
    for camera in NUSCENES_RIG.cameras:
        height = _cameras(rigs, camera.name, 'place_m')[:, 2]
        # All sensors rise together, each with an error of about a centimetre.
        error = height - camera.place_m[2] - lift
        assert 0.005 < error.std() < 0.02


def test_cars_lean_and_cameras_are_mounted_with_errors(rigs: list[Rig]) -> None:
    lean = np.array([rig.lidar.pitch_rad for rig in rigs])
    front, back = _cameras(rigs, 'CAM_FRONT', 'pitch_rad'), _cameras(rigs, 'CAM_BACK', 'pitch_rad')
    assert 0.004 < lean.std() < 0.008
    # A car that leans forward lowers the axis of the front camera and raises that of the back camera.
    assert np.corrcoef(lean, front)[0, 1] > 0.4 and np.corrcoef(lean, back)[0, 1] < -0.4
    assert front.std() > 1.2 * lean.std()
    # At 20 m the horizons of two cars differ by tens of centimetres.
    assert np.ptp(front) * 20 > 0.5
    for camera in NUSCENES_RIG.cameras:
        assert 0.005 < (_cameras(rigs, camera.name, 'yaw_rad') - camera.yaw_rad).std() < 0.012
        focal = _cameras(rigs, camera.name, 'focal') * camera.width / TINY.width
        assert 0.002 < (focal / camera.focal).std() < 0.006


def test_every_kind_of_weather_comes_as_often_as_it_should(lights: dict[str, list[Light]]) -> None:
    for weather, share in WEATHERS.items():
        # Three standard deviations of 400 draws.
        assert abs(len(lights[weather]) / 400 - share) < 3 * np.sqrt(share * (1 - share) / 400)


def test_light_and_air_follow_the_weather(lights: dict[str, list[Light]]) -> None:
    sun = {weather: np.array([light.sun for light in found]) for weather, found in lights.items()}
    assert sun['clear'][:, 0].min() > sun['haze'][:, 0].max() > sun['cloudy'][:, 0].max() > sun['rain'][:, 0].max()
    height = {m: np.rad2deg(np.arcsin([light.to_sun[2] for light in found])) for m, found in lights.items()}
    assert height['dusk'].max() < 16.1 and min(height[m].min() for m in WEATHERS if m != 'dusk') > 21.9
    assert np.ptp(height['clear']) > 40
    azimuth = [np.arctan2(light.to_sun[1], light.to_sun[0]) for light in lights['clear']]
    # All around: the mean direction is short.
    assert abs(np.exp(1j * np.array(azimuth)).mean()) < 0.25
    # A low sun is red.
    assert (sun['dusk'][:, 2] / sun['dusk'][:, 0]).max() < 0.6 < (sun['clear'][:, 2] / sun['clear'][:, 0]).min()
    haze = {weather: [light.haze_per_m for light in found] for weather, found in lights.items()}
    assert min(haze['haze']) >= 3e-3 > 5 * max(haze['clear'])
    assert all((light.wet > 0) == (weather == 'rain') for weather, found in lights.items() for light in found)
    assert all(light.lamps > 0 for weather in ('dusk', 'rain') for light in lights[weather])


def test_cars_and_ground_have_many_colours() -> None:
    rng = np.random.default_rng(0)
    paint = []
    for _ in range(80):
        solids = make_body(rng, 'car').solids
        paint.append(solids.color[solids.material == PAINT][0])
    paint = np.array(paint)
    assert paint.min() < 0.1 and paint.max() > 0.6
    assert len(np.unique(paint.round(2), axis=0)) > 20
    # Not grey alone.
    assert (np.ptp(paint, axis=1) > 0.15).sum() > 10
    grounds = [draw_ground_colors(rng, k) for k in range(60)]
    asphalt = np.array([colors.asphalt for colors in grounds])
    terrain = np.array([colors.terrain for colors in grounds])
    assert asphalt[:, 0].min() < 0.09 and asphalt[:, 0].max() > 0.18
    assert len(np.unique(terrain.round(3), axis=0)) > 40
    assert {colors.curb_band for colors in grounds} == {0.0, 2.0}


def test_one_street_looks_different_in_every_weather(lights: dict[str, list[Light]]) -> None:
    scene = make_scene(0, 2, 0.5, TINY.reach_m)
    rig = draw_rig(np.random.default_rng([0, 2, 77]), NUSCENES_RIG, 176, 48)
    images, ids = {}, []
    for weather, found in lights.items():
        recorder = Recorder(replace(scene, light=found[0]), rig, replace(TINY, width=176, height=48, oversampling=1))
        image = recorder.camera_image(rig.cameras[0], 0.0, recorder.shadow(0.0))
        images[weather] = image.image.astype(float)
        ids.append(image.ids)
    assert all(np.array_equal(other, ids[0]) for other in ids)
    names = list(images)
    for k, first in enumerate(names):
        for second in names[k + 1 :]:
            assert np.abs(images[first] - images[second]).mean() > 8, (first, second)
    # Images are BGR.
    warmth = {weather: image[..., 2].mean() / image[..., 0].mean() for weather, image in images.items()}
    assert max(warmth, key=warmth.get) == 'dusk'


def test_echoes_tell_materials_and_classes_apart() -> None:
    materials, classes, echoes, road = [], [], [], []
    for k in range(3):
        scene = make_scene(3, k, 0.5)
        sweep, world = Recorder(scene, NUSCENES_RIG, TINY).sweep(0.0)
        near = np.linalg.norm(sweep.points[:, :3], axis=1) < 30
        hit = near & (sweep.solid >= 0)
        index = sweep.solid[hit]
        materials.append(world.material[index])
        # Owner -1, the scenery, reads the last name.
        classes.append(np.array([*(agent.name for agent in scene.agents), 'scenery'])[sweep.owner[hit]])
        echoes.append(sweep.points[hit, 3])
        road.append(sweep.points[near & (sweep.solid == -1), 3])
    materials, classes, echoes = (np.concatenate(part) for part in (materials, classes, echoes))
    seen = [k for k in range(len(REFLECTIVITY)) if (materials == k).sum() >= 50]
    strength = {k: float(echoes[materials == k].mean()) for k in seen}
    assert len(seen) >= 10
    assert np.corrcoef(list(strength.values()), REFLECTIVITY[seen])[0, 1] > 0.98
    assert strength[METAL] > 1.3 * strength[PAINT] > 6 * strength[RUBBER]
    by_class = {name: float(echoes[classes == name].mean()) for name in ('traffic_cone', 'car', 'pedestrian')}
    assert by_class['traffic_cone'] > 1.5 * by_class['car'] and by_class['car'] > 1.1 * by_class['pedestrian']
    # Lines are painted on dark asphalt.
    assert all(np.median(echo) < 0.3 * np.percentile(echo, 99.5) for echo in road)
