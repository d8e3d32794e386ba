"""A small nuScenes tree written by hand: odd sizes, sweeps, an ego vehicle that turns, gaps in the annotations.

Cameras run at 12 Hz with a phase of their own, the LiDAR at 20 Hz, keyframes come every 0.5 s. Nothing here uses the
package under test, so that tests can compare it with the devkit on this tree.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pyquaternion import Quaternion

START_US = 1_600_000_000_000_000
# name: (width, height, yaw of the optical axis in degrees, phase in microseconds)
CAMERAS = {
    'CAM_BACK_RIGHT': (60, 40, -110, 27_000),
    'CAM_BACK_LEFT': (60, 40, 110, 31_000),
    'CAM_FRONT': (96, 54, 0, -35_000),
    'CAM_BACK': (96, 54, 180, 12_000),
}
CATEGORIES = ('vehicle.car', 'human.pedestrian.adult', 'vehicle.bicycle', 'static_object.bicycle_rack', 'animal')
ATTRIBUTES = ('vehicle.moving', 'vehicle.parked', 'pedestrian.moving', 'cycle.without_rider')


@dataclass
class HandmadeTree:
    """Writes `<root>/<version>` and the sensor files.

    scenes: their names. keyframes: how many a scene has. annotated: False leaves the annotations out.
    """

    root: Path
    version: str = 'v1.0-hand'
    scenes: tuple[str, ...] = ('scene-a', 'scene-b')
    keyframes: int = 5
    annotated: bool = True
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def write(self, splits: dict[str, list[str]] | None = None) -> Path:
        """Writes everything; returns the root."""
        self._constant_tables()
        for number, name in enumerate(self.scenes):
            self._scene(number, name)
        folder = self.root / self.version
        folder.mkdir(parents=True)
        for table, rows in self.tables.items():
            (folder / f'{table}.json').write_text(json.dumps(rows))
        if splits:
            (folder / 'splits.json').write_text(json.dumps(splits))
        (self.root / 'maps').mkdir(exist_ok=True)
        cv2.imwrite(str(self.root / 'maps' / 'map.png'), np.zeros((4, 4), np.uint8))
        return self.root

    def add(self, table: str, token: str, **row: Any) -> str:
        """Appends a row to a table; returns its token."""
        self.tables.setdefault(table, []).append({'token': token, **row})
        return token

    def _constant_tables(self) -> None:
        for table in (
            'sample_annotation',
            'instance',
            'scene',
            'sample',
            'sample_data',
            'ego_pose',
            'calibrated_sensor',
        ):
            self.tables[table] = []
        for name in CATEGORIES:
            self.add('category', f'category {name}', name=name, description='')
        for name in ATTRIBUTES:
            self.add('attribute', f'attribute {name}', name=name, description='')
        self.add('visibility', '4', level='v80-100', description='')
        self.add('log', 'log', logfile='log', vehicle='v', date_captured='2020-01-01', location='here')
        self.add('map', 'map', log_tokens=['log'], category='semantic_prior', filename='maps/map.png')
        for channel in ('LIDAR_TOP', *CAMERAS):
            modality = 'lidar' if channel == 'LIDAR_TOP' else 'camera'
            self.add('sensor', f'sensor {channel}', channel=channel, modality=modality)

    def ego_pose(self, number: int, time_us: int) -> tuple[list[float], list[float]]:
        """Returns translation and rotation (w, x, y, z) of the ego vehicle: a curve, with a little pitch."""
        seconds = (time_us - START_US) / 1e6 - 100 * number
        yaw = 0.7 + 0.4 * seconds
        where = [500 + 300 * number + 12 * math.sin(yaw), 900 - 12 * math.cos(yaw), 0.1 * seconds]
        turn = Quaternion(axis=[0, 0, 1], radians=yaw) * Quaternion(axis=[0, 1, 0], degrees=1.5)
        return where, turn.elements.tolist()

    def _calibrations(self, scene: str) -> None:
        # nuScenes' LiDAR looks along its own y axis.
        lidar = Quaternion(axis=[0, 0, 1], degrees=-90) * Quaternion(axis=[1, 0, 0], degrees=0.5)
        self._calibration(scene, 'LIDAR_TOP', [0.9, 0.0, 1.8], lidar, [])
        forward = Quaternion(matrix=np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]))
        for channel, (width, height, yaw, _) in CAMERAS.items():
            turn = Quaternion(axis=[0, 0, 1], degrees=yaw) * forward
            intrinsics = [[0.8 * width, 0, width / 2 + 1], [0, 0.8 * width, height / 2 - 2], [0, 0, 1]]
            self._calibration(scene, channel, [1.0 + 0.001 * yaw, 0.1, 1.5], turn, intrinsics)

    def _calibration(self, scene: str, channel: str, where: list[float], turn: Quaternion, intrinsics: list) -> None:
        self.add(
            'calibrated_sensor',
            f'calibration {scene} {channel}',
            sensor_token=f'sensor {channel}',
            translation=where,
            rotation=turn.elements.tolist(),
            camera_intrinsic=intrinsics,
        )

    def _scene(self, number: int, name: str) -> None:
        start_us = START_US + 100_000_000 * number
        times = [start_us + 500_000 * k for k in range(self.keyframes)]
        samples = [f'sample {name} {k}' for k in range(self.keyframes)]
        for k, time_us in enumerate(times):
            before, after = samples[k - 1] if k else '', samples[k + 1] if k + 1 < len(samples) else ''
            self.add('sample', samples[k], timestamp=time_us, prev=before, next=after, scene_token=f'token {name}')
        self.add(
            'scene',
            f'token {name}',
            log_token='log',
            nbr_samples=self.keyframes,
            first_sample_token=samples[0],
            last_sample_token=samples[-1],
            name=name,
            description='',
        )
        self._calibrations(name)
        self._frames(number, name, 'LIDAR_TOP', times, 50_000, 0)
        for channel, (_, _, _, phase_us) in CAMERAS.items():
            self._frames(number, name, channel, times, 83_333, phase_us)
        if self.annotated:
            self._objects(name, times, samples)

    def _frames(self, number: int, name: str, channel: str, times: list[int], step_us: int, phase_us: int) -> None:
        key_us = [time_us + phase_us for time_us in times]
        between = [
            t + i * step_us for t in key_us[:-1] for i in range(1, 500_000 // step_us) if t + i * step_us < t + 5e5
        ]
        rows = []
        for time_us in sorted({*key_us, *between}):
            is_key = time_us in key_us
            later = [k for k, key in enumerate(key_us) if key >= time_us]
            folder, suffix = 'samples' if is_key else 'sweeps', 'pcd.bin' if channel == 'LIDAR_TOP' else 'jpg'
            path = f'{folder}/{channel}/{name}__{channel}__{time_us}.{suffix}'
            where, turn = self.ego_pose(number, time_us)
            pose = self.add('ego_pose', f'pose {path}', timestamp=time_us, rotation=turn, translation=where)
            width, height = CAMERAS[channel][:2] if channel in CAMERAS else (0, 0)
            rows.append(
                dict(
                    token=f'data {path}',
                    sample_token=f'sample {name} {later[0]}',
                    ego_pose_token=pose,
                    calibrated_sensor_token=f'calibration {name} {channel}',
                    timestamp=time_us,
                    fileformat=suffix[:3],
                    is_key_frame=is_key,
                    height=height,
                    width=width,
                    filename=path,
                )
            )
            self._sensor_file(self.root / path, width, height, len(rows))
        for i, row in enumerate(rows):
            row['prev'] = rows[i - 1]['token'] if i else ''
            row['next'] = rows[i + 1]['token'] if i + 1 < len(rows) else ''
        # The devkit promises no order by time, so none is given.
        self.tables['sample_data'] += rows[::2] + rows[1::2]

    @staticmethod
    def _sensor_file(path: Path, width: int, height: int, seed: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        if width:
            coarse = rng.integers(0, 255, (5, 7, 3), np.uint8)
            cv2.imwrite(str(path), cv2.resize(coarse, (width, height)))
        else:
            rng.uniform(-30, 30, (50, 5)).astype(np.float32).tofile(path)

    def _objects(self, scene: str, times: list[int], samples: list[str]) -> None:
        ego = np.array(self.ego_pose(self.scenes.index(scene), times[0])[0])
        all_frames = list(range(len(times)))
        # name, category, offset to the ego vehicle, velocity, keyframes, size (w, l, h), attribute, LiDAR points
        self._object(
            scene, 'mover', 0, ego + [14, 5, 0.9], [4, 2, 0], all_frames, [1.9, 4.6, 1.7], 0, 12, times, samples
        )
        self._object(
            scene, 'parked', 0, ego + [-9, 12, 0.8], [0, 0, 0], all_frames, [1.8, 4.2, 1.6], 1, 7, times, samples
        )
        self._object(scene, 'once', 1, ego + [6, -7, 0.9], [1, 0, 0], [1], [0.6, 0.7, 1.8], 2, 3, times, samples)
        self._object(scene, 'gap', 1, ego + [3, 9, 0.9], [0, 1, 0], [0, 4], [0.6, 0.7, 1.7], 2, 3, times, samples)
        self._object(
            scene, 'hidden', 1, ego + [9, 9, 0.9], [0, 0, 0], all_frames, [0.6, 0.7, 1.7], None, 0, times, samples
        )
        self._object(scene, 'rack', 3, ego + [-6, -6, 0.8], [0, 0, 0], all_frames, [3, 6, 2], None, 9, times, samples)
        self._object(
            scene, 'in rack', 2, ego + [-6, -6, 0.8], [0, 0, 0], all_frames, [0.6, 1.8, 1.2], 3, 4, times, samples
        )
        self._object(
            scene, 'bicycle', 2, ego + [8, -2, 0.7], [0, 0, 0], all_frames, [0.6, 1.8, 1.2], 3, 4, times, samples
        )
        self._object(
            scene, 'dog', 4, ego + [5, 5, 0.4], [1, 1, 0], all_frames, [0.4, 0.9, 0.6], None, 4, times, samples
        )

    def _object(
        self, scene: str, name: str, category: int, start: np.ndarray, velocity: list[float], frames: list[int],
        size: list[float], attribute: int | None, points: int, times: list[int], samples: list[str],
    ) -> None:  # fmt: skip
        frames = [k for k in frames if k < len(samples)]
        tokens = [f'annotation {scene} {name} {k}' for k in frames]
        instance = self.add(
            'instance',
            f'instance {scene} {name}',
            category_token=f'category {CATEGORIES[category]}',
            nbr_annotations=len(frames),
            first_annotation_token=tokens[0],
            last_annotation_token=tokens[-1],
        )
        yaw = math.atan2(velocity[1], velocity[0]) + 0.1
        for i, k in enumerate(frames):
            where = start + np.array(velocity) * (times[k] - times[0]) / 1e6
            self.add(
                'sample_annotation',
                tokens[i],
                sample_token=samples[k],
                instance_token=instance,
                visibility_token='4',
                attribute_tokens=[] if attribute is None else [f'attribute {ATTRIBUTES[attribute]}'],
                translation=where.tolist(),
                size=size,
                rotation=Quaternion(axis=[0, 0, 1], radians=yaw).elements.tolist(),
                prev=tokens[i - 1] if i else '',
                next=tokens[i + 1] if i + 1 < len(frames) else '',
                num_lidar_pts=points,
                num_radar_pts=0,
            )
