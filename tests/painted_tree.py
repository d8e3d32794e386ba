"""The handmade nuScenes tree with clouds that its objects reflect, and a slow account of what ten sweeps see of them.

Nothing here uses the package under test: matrices come from the tables, through pyquaternion.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from nuscenes_tree import HandmadeTree
from pyquaternion import Quaternion

SPLITS = {'hand_train': ['scene-a'], 'hand_val': ['scene-b']}
NAMES = {'vehicle.car': 'car', 'human.pedestrian.adult': 'pedestrian', 'vehicle.bicycle': 'bicycle'}


@dataclass
class PaintedTree:
    """Writes the tree below `root`; every sweep has `per_object` points in each object, and some that hit nothing."""

    root: Path
    per_object: int = 6
    tables: dict[str, dict[str, dict]] = field(default_factory=dict)

    def write(self) -> Path:
        """Writes everything; returns the root."""
        HandmadeTree(self.root).write(SPLITS)
        for name in ('sample_data', 'sample', 'ego_pose', 'calibrated_sensor', 'sample_annotation', 'instance'):
            rows = json.loads((self.root / 'v1.0-hand' / f'{name}.json').read_text())
            self.tables[name] = {row['token']: row for row in rows}
        for number, record in enumerate(self.lidar):
            self._points(record, number).tofile(self.root / record['filename'])
        return self.root

    @cached_property
    def lidar(self) -> list[dict]:
        """The rows of sample_data of the LiDAR, in order of time; scenes do not overlap in time."""
        rows = [row for row in self.tables['sample_data'].values() if 'LIDAR_TOP' in row['filename']]
        return sorted(rows, key=lambda row: row['timestamp'])

    def global_from_lidar(self, record: dict) -> np.ndarray:
        """(4, 4) at the time of a row of sample_data."""
        pose = self.tables['ego_pose'][record['ego_pose_token']]
        return _matrix(pose) @ _matrix(self.tables['calibrated_sensor'][record['calibrated_sensor_token']])

    def _points(self, record: dict, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        parts = [rng.uniform(-30, 30, (40, 3)), rng.uniform(-0.9, 0.9, (5, 3))]
        lidar_from_global = np.linalg.inv(self.global_from_lidar(record))
        scene = record['sample_token'].split()[1]
        for annotation in self.tables['sample_annotation'].values():
            # What stands somewhere at the next keyframe stands there in this sweep.
            if annotation['sample_token'] != record['sample_token'] or f' {scene} ' not in annotation['token']:
                continue
            width, length, height = annotation['size']
            local = rng.uniform(-0.48, 0.48, (self.per_object, 3)) * [length, width, height]
            world = local @ Quaternion(annotation['rotation']).rotation_matrix.T + annotation['translation']
            parts.append(world @ lidar_from_global[:3, :3].T + lidar_from_global[:3, 3])
        xyz = np.concatenate(parts)
        return np.column_stack([xyz, rng.uniform(0, 255, len(xyz)), rng.integers(0, 32, len(xyz))]).astype(np.float32)

    def ten_sweeps(self, sample: str) -> np.ndarray:
        """Returns the points (N, 5) float64 of a keyframe and up to nine sweeps before it, in the keyframe's frame."""
        row = next(i for i, r in enumerate(self.lidar) if r['is_key_frame'] and r['sample_token'] == sample)
        key = self.lidar[row]
        scene = sample.split()[1]
        parts = []
        for record in self.lidar[max(0, row - 9) : row + 1]:
            if record['sample_token'].split()[1] != scene:
                continue
            points = np.fromfile(self.root / record['filename'], np.float32).reshape(-1, 5).astype(np.float64)
            if record is not key:
                points = points[~((abs(points[:, 0]) < 1) & (abs(points[:, 1]) < 1))]
            key_from_sweep = np.linalg.inv(self.global_from_lidar(key)) @ self.global_from_lidar(record)
            points[:, :3] = points[:, :3] @ key_from_sweep[:3, :3].T + key_from_sweep[:3, 3]
            points[:, 4] = (key['timestamp'] - record['timestamp']) / 1e6
            parts.append(points)
        return np.concatenate(parts)

    def objects(self, sample: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Returns (class, box x, y, z of the middle, l, w, h, yaw, its points (N, 5)) of the objects of a sample.

        The keyframe's frame; objects that neither LiDAR nor radar has seen are left out.
        """
        row = next(i for i, r in enumerate(self.lidar) if r['is_key_frame'] and r['sample_token'] == sample)
        lidar_from_global = np.linalg.inv(self.global_from_lidar(self.lidar[row]))
        cloud = self.ten_sweeps(sample)
        found = []
        for annotation in self.tables['sample_annotation'].values():
            instance = self.tables['instance'][annotation['instance_token']]
            name = NAMES.get(instance['category_token'].removeprefix('category '))
            seen = annotation['num_lidar_pts'] + annotation['num_radar_pts']
            if annotation['sample_token'] != sample or name is None or not seen:
                continue
            middle = lidar_from_global[:3, :3] @ annotation['translation'] + lidar_from_global[:3, 3]
            axis = lidar_from_global[:3, :3] @ Quaternion(annotation['rotation']).rotation_matrix[:, 0]
            yaw = np.arctan2(axis[1], axis[0])
            width, length, height = annotation['size']
            inside = []
            for point in cloud:
                x, y, z = point[:3] - middle
                along, across = x * np.cos(yaw) + y * np.sin(yaw), y * np.cos(yaw) - x * np.sin(yaw)
                if abs(along) <= length / 2 and abs(across) <= width / 2 and abs(z) <= height / 2:
                    inside.append(point)
            found.append((name, np.array([*middle, length, width, height, yaw]), np.array(inside).reshape(-1, 5)))
        return found


def _matrix(row: dict) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Quaternion(row['rotation']).rotation_matrix
    matrix[:3, 3] = row['translation']
    return matrix
