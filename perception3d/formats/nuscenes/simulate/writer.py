"""The nuScenes format: thirteen tables of `v1.0-sim`, keyframes in `samples/`, what lies between them in `sweeps/`.

Times: a revolution of the LiDAR takes 0.05 s and a keyframe is the end of every tenth revolution. A camera fires when
the LiDAR passes its axis, in the revolutions that come nearest to 12 Hz. A frame between two keyframes belongs to the
later one. Boxes are where the LiDAR hit the objects during the revolution; see `Recorder.boxes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.files import write_bytes, write_image, write_json
from perception3d.formats.nuscenes.simulate.profiles import NuScenesProfile
from perception3d.formats.nuscenes.simulate.tables import (
    attribute_name,
    attribute_token,
    category_token,
    fixed_tables,
    quaternion,
    sensor_token,
    token,
    visibility_token,
    yaw_quaternion,
)
from perception3d.simulation.capture import Recorder, count_points
from perception3d.simulation.jobs import Job, Request, Writer
from perception3d.simulation.render.ground import drivable_mask
from perception3d.simulation.render.lidar import Sweep
from perception3d.simulation.rig import NUSCENES_RIG, CameraMount, Rig, draw_rig
from perception3d.simulation.world.population import NUSCENES_POPULATION
from perception3d.simulation.world.scene import Scene, make_scene

VERSION = 'v1.0-sim'
SPLITS = ('sim_train', 'sim_val')
KEYFRAME_S, REVOLUTION_S, CAMERA_HZ = 0.5, 0.05, 12.0
RANGE_M = 80.0
MAP_STEP_M, MAP_PIXEL_M = 0.4, 0.1
EPOCH = datetime(2024, 3, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class SensorFile:
    """One file to record: sensor, scene time, the keyframe that it belongs to, whether it is that keyframe."""

    channel: str
    time_s: float
    keyframe: int
    is_key: bool


@dataclass
class Placement:
    """Where a scene is in the global frame and in time: yaw, shift in metres, time stamp of scene time 0."""

    yaw_rad: float
    shift_m: npt.NDArray[Any]
    extent_m: float
    start_us: int
    logfile: str

    def world(self) -> npt.NDArray[Any]:
        """Returns global_from_scene (4, 4)."""
        pose = np.eye(4)
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        pose[:2, :2] = [[cos, -sin], [sin, cos]]
        pose[:2, 3] = self.shift_m
        return pose

    def stamp(self, time_s: float) -> int:
        """Returns the time stamp in microseconds of a scene time."""
        return self.start_us + int(round(time_s * 1e6))


def place_scene(rng: np.random.Generator, job: Job[NuScenesProfile], scene: Scene) -> Placement:
    """Draws where a scene is; each has its own map, log and minute."""
    radius = np.abs(scene.ego_track[:, :2]).max() + 110.0
    begin = EPOCH + timedelta(minutes=job.index)
    logfile = f'sim{job.request.seed}-{begin:%Y-%m-%d-%H-%M-%S}+0000'
    start = int(begin.timestamp()) * 1_000_000 + int(rng.integers(10**6, 9 * 10**6))
    extent = float(np.ceil(2 * radius / MAP_STEP_M) * MAP_STEP_M)
    shift = np.array([extent / 2, extent / 2])
    return Placement(float(rng.uniform(-np.pi, np.pi)), shift, extent, start, logfile)


def plan_files(cameras: tuple[CameraMount, ...], lidar: str, keyframes: int, sweeps: bool) -> list[SensorFile]:
    """Returns every file of a scene, in order of time."""
    files = []
    per_key = int(round(KEYFRAME_S / REVOLUTION_S))
    camera_revolutions = {int(round(j / CAMERA_HZ / REVOLUTION_S)) for j in range(int(round(KEYFRAME_S * CAMERA_HZ)))}
    for revolution in range((keyframes - 1) * per_key + 1):
        keyframe, phase = -(-revolution // per_key), revolution % per_key
        is_key = phase == 0
        if not (is_key or sweeps):
            continue
        time_s = revolution * REVOLUTION_S
        files.append(SensorFile(lidar, time_s, keyframe, is_key))
        if phase in camera_revolutions:
            files += [SensorFile(c.name, time_s - c.lead_s, keyframe, is_key) for c in cameras]
    return sorted(files, key=lambda s: (s.time_s, s.channel))


class SceneWriter:
    """Writes the files of one scene; a format that adds files to those of nuScenes derives from it."""

    population = NUSCENES_POPULATION

    def __init__(self, job: Job[Any]) -> None:
        request = job.request
        self.request, self.profile = request, request.profile
        duration = KEYFRAME_S * (self.profile.keyframes - 1)
        scene = make_scene(request.seed, job.index, duration, self.profile.reach_m, self.population)
        rng = np.random.default_rng([request.seed, job.index, 77])
        self.recorder = Recorder(scene, self.draw_rig(rng), self.profile)
        self.placement = place_scene(rng, job, scene)
        self.tables = _SceneRows(job, self.placement, self.recorder)

    def draw_rig(self, rng: np.random.Generator) -> Rig:
        """Returns the sensors of the scene."""
        return draw_rig(rng, NUSCENES_RIG, self.profile.width, self.profile.height)

    def write(self) -> dict[str, Any]:
        """Writes images, sweeps and map; returns the scene's rows of the tables."""
        recorder, tables, profile = self.recorder, self.tables, self.profile
        files = plan_files(recorder.rig.cameras, recorder.rig.lidar.name, profile.keyframes, profile.sweeps)
        pixels = np.zeros((profile.keyframes, len(recorder.scene.agents), 2))
        points = np.zeros((profile.keyframes, len(recorder.scene.agents)), np.int64)
        shadow, shadow_time = None, None
        for file in files:
            row = tables.add_file(file)
            path = self.request.out / row['filename']
            if file.channel == recorder.rig.lidar.name:
                sweep, _ = recorder.sweep(file.time_s)
                write_bytes(path, sweep.points)
                if file.is_key:
                    points[file.keyframe] = self._points_in_boxes(sweep, file.time_s)
                    self.keep_keyframe(row['token'], sweep)
                continue
            revolution_end_s = round((file.time_s + tables.mounts[file.channel].lead_s) / REVOLUTION_S) * REVOLUTION_S
            if shadow is None or shadow_time != revolution_end_s:
                shadow, shadow_time = recorder.shadow(revolution_end_s), revolution_end_s
            image = recorder.camera_image(tables.mounts[file.channel], file.time_s, shadow)
            write_image(path, image.image, profile.jpeg_quality)
            if file.is_key:
                pixels[file.keyframe] += recorder.visibility(image, file.time_s)
        tables.add_annotations(points, pixels)
        _write_map(self.request.out / tables.map_name, recorder.scene, self.placement)
        return tables.rows

    def keep_keyframe(self, token: str, sweep: Sweep) -> None:
        """Writes what a format adds to the sweep of a keyframe, the row `token` of sample_data: here nothing."""

    def _points_in_boxes(self, sweep: Sweep, time_s: float) -> npt.NDArray[Any]:
        recorder = self.recorder
        world_from_lidar = recorder.scene.world_from_ego(time_s) @ recorder.rig.lidar.ego_from_lidar()
        return count_points(sweep.points[:, :3], world_from_lidar, recorder.boxes(time_s))


def write_scene(job: Job[NuScenesProfile]) -> dict[str, Any]:
    """Writes one scene's images, sweeps and map; returns its rows of the tables."""
    return SceneWriter(job).write()


def _write_map(path: Path, scene: Scene, placement: Placement) -> None:
    """Writes the mask of carriageways and sidewalks, 0.1 m a pixel, as the devkit expects."""
    cells = int(round(placement.extent_m / MAP_STEP_M))
    mask = drivable_mask(scene.ground.roads, placement.yaw_rad, placement.shift_m, MAP_STEP_M, cells, cells)
    write_image(path, mask.repeat(int(MAP_STEP_M / MAP_PIXEL_M), 0).repeat(int(MAP_STEP_M / MAP_PIXEL_M), 1))


def _pose_fields(pose: npt.NDArray[Any]) -> dict[str, list[float]]:
    return {'translation': pose[:3, 3].tolist(), 'rotation': quaternion(pose[:3, :3])}


class _SceneRows:
    """Collects one scene's rows of all tables."""

    def __init__(self, job: Job[NuScenesProfile], placement: Placement, recorder: Recorder) -> None:
        self.job, self.placement, self.recorder = job, placement, recorder
        self.base = (job.request.seed, job.request.profile.name, job.name)
        self.mounts = {c.name: c for c in recorder.rig.cameras}
        self.map_name = f'maps/{self._token("map")}.png'
        self.rows: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ('log', 'map', 'calibrated_sensor', 'ego_pose', 'scene', 'sample', 'sample_data',
                                  'instance', 'sample_annotation')
        }  # fmt: skip
        self._last: dict[str, dict[str, Any]] = {}
        self._add_scene()
        self._add_sensors()

    def _token(self, *parts: object) -> str:
        return token(*self.base, *parts)

    def _add_scene(self) -> None:
        scene, count = self.recorder.scene, self.job.request.profile.keyframes
        samples = [self._token('sample', k) for k in range(count)]
        log = self._token('log')
        begin = datetime.fromtimestamp(self.placement.start_us / 1e6, timezone.utc)
        self.rows['log'].append({
            'token': log, 'logfile': self.placement.logfile, 'vehicle': f'sim{self.job.request.seed}',
            'date_captured': f'{begin:%Y-%m-%d}', 'location': 'built-in-world',
        })  # fmt: skip
        self.rows['map'].append({
            'token': self._token('map'), 'log_tokens': [log], 'category': 'semantic_prior', 'filename': self.map_name,
        })  # fmt: skip
        self.rows['scene'].append({
            'token': self._token('scene'), 'log_token': log, 'nbr_samples': count, 'first_sample_token': samples[0],
            'last_sample_token': samples[-1], 'name': self.job.name,
            'description': f'{scene.layout.kind} road, {scene.weather}, built-in world',
        })  # fmt: skip
        for k, sample in enumerate(samples):
            self.rows['sample'].append({
                'token': sample, 'timestamp': self.placement.stamp(k * KEYFRAME_S),
                'prev': samples[k - 1] if k else '', 'next': samples[k + 1] if k + 1 < count else '',
                'scene_token': self._token('scene'),
            })  # fmt: skip

    def _add_sensors(self) -> None:
        rig = self.recorder.rig
        mounts: list[tuple[str, npt.NDArray[Any], list[Any]]] = [(rig.lidar.name, rig.lidar.ego_from_lidar(), [])]
        mounts += [(c.name, c.ego_from_cam(), c.intrinsics().tolist()) for c in rig.cameras]
        for channel, pose, intrinsic in mounts:
            self.rows['calibrated_sensor'].append({
                'token': self._token('calibrated', channel), 'sensor_token': sensor_token(channel),
                'camera_intrinsic': intrinsic, **_pose_fields(pose),
            })  # fmt: skip

    def add_file(self, file: SensorFile) -> dict[str, Any]:
        """Adds a file's rows and returns that of sample_data; `filename` is relative to the root."""
        stamp = self.placement.stamp(file.time_s)
        camera = self.mounts.get(file.channel)
        name = self._token('data', file.channel, stamp)
        folder = 'samples' if file.is_key else 'sweeps'
        suffix = 'pcd.bin' if camera is None else 'jpg'
        filename = f'{folder}/{file.channel}/{self.placement.logfile}__{file.channel}__{stamp}.{suffix}'
        before = self._last.get(file.channel)
        row = {
            'token': name, 'sample_token': self._token('sample', file.keyframe), 'ego_pose_token': name,
            'calibrated_sensor_token': self._token('calibrated', file.channel), 'timestamp': stamp,
            'fileformat': 'pcd' if camera is None else 'jpg', 'is_key_frame': file.is_key,
            'height': camera.height if camera else 0, 'width': camera.width if camera else 0, 'filename': filename,
            'prev': before['token'] if before else '', 'next': '',
        }  # fmt: skip
        if before:
            before['next'] = name
        self._last[file.channel] = row
        self.rows['sample_data'].append(row)
        pose = self.placement.world() @ self.recorder.scene.world_from_ego(file.time_s)
        self.rows['ego_pose'].append({
            'token': name, 'timestamp': stamp, **_pose_fields(pose),
        })  # fmt: skip
        return row

    def add_annotations(self, points: npt.NDArray[Any], pixels: npt.NDArray[Any]) -> None:
        """Adds the boxes of all agents that a sensor saw at least once.

        points (K, A): LiDAR points in the box at each keyframe; pixels (K, A, 2): covered and visible pixels.
        """
        scene, world = self.recorder.scene, self.placement.world()
        boxes = [self.recorder.boxes(k * KEYFRAME_S) for k in range(len(points))]
        observed = (points.sum(0) > 0) | (pixels[..., 1].sum(0) > 0)
        for a in np.flatnonzero(observed):
            agent = scene.agents[a]
            rows: list[dict[str, Any]] = []
            for k in range(len(points)):
                time_s = k * KEYFRAME_S
                box = boxes[k][a]
                if np.hypot(*(box[:2] - scene.world_from_ego(time_s)[:2, 3])) > RANGE_M:
                    continue
                attribute = attribute_name(agent.name, scene.speeds(time_s)[a], agent.parked, agent.body.rider)
                rows.append({
                    'token': self._token('annotation', a, k), 'sample_token': self._token('sample', k),
                    'instance_token': self._token('instance', a),
                    'visibility_token': visibility_token(*pixels[k, a]),
                    'attribute_tokens': [attribute_token(attribute)] if attribute else [],
                    'translation': (world[:3, :3] @ box[:3] + world[:3, 3]).tolist(),
                    'size': [box[4], box[3], box[5]], 'rotation': yaw_quaternion(box[6] + self.placement.yaw_rad),
                    'prev': rows[-1]['token'] if rows else '', 'next': '', 'num_lidar_pts': int(points[k, a]),
                    'num_radar_pts': 0,
                })  # fmt: skip
                if len(rows) > 1:
                    rows[-2]['next'] = rows[-1]['token']
            if rows:
                self._add_instance(a, rows)

    def _add_instance(self, a: int, rows: list[dict[str, Any]]) -> None:
        body = self.recorder.scene.agents[a].body
        category = 'worker' if body.worker else body.name
        self.rows['instance'].append({
            'token': self._token('instance', a), 'category_token': category_token(category),
            'nbr_annotations': len(rows), 'first_annotation_token': rows[0]['token'],
            'last_annotation_token': rows[-1]['token'],
        })  # fmt: skip
        self.rows['sample_annotation'] += rows


def finish(request: Request[NuScenesProfile], jobs: list[Job[NuScenesProfile]], records: list[dict[str, Any]]) -> None:
    """Writes the thirteen tables and the custom splits `sim_train` and `sim_val`."""
    channels = [NUSCENES_RIG.lidar.name] + [c.name for c in NUSCENES_RIG.cameras]
    write_tables(request, jobs, records, fixed_tables(channels))


def write_tables(
    request: Request[Any],
    jobs: list[Job[Any]],
    records: list[dict[str, Any]],
    tables: dict[str, list[dict[str, Any]]],
) -> None:
    """Writes tables that do not depend on the scenes and those of the scenes' rows, and the custom splits."""
    for name in records[0]:
        tables[name] = [row for record in records for row in record[name]]
    for name, rows in tables.items():
        write_json(request.out / VERSION / f'{name}.json', rows)
    names = [job.name for job in jobs]
    splits = {SPLITS[0]: names[: request.scenes], SPLITS[1]: names[request.scenes :]}
    write_json(request.out / VERSION / 'splits.json', splits)


WRITER = Writer('nuscenes', write_scene, finish)
