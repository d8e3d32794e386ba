"""Where the ground is in the lidar frame of each sample, and grids and boxes that follow it.

A camera tells the distance of an object by the pixel of its foot, so a grid must know the height of the road: 0.15 m of
error at a camera 1.5 m high is a tenth of the distance. In a fleet the sensors of no two cars hang alike, but the ego
frame lies on the road, and the calibration from lidar to ego says where that is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from perception3d.checks import InputError


def ground_plane(ego_from_lidar: np.ndarray) -> np.ndarray:
    """Plane (..., 3) of the ego frame's ground, z = p[0] + p[1]*x + p[2]*y in metres of the lidar frame (..., 4, 4)."""
    row = ego_from_lidar[..., 2, :]
    if np.any(np.abs(row[..., 2]) < 0.1):
        raise InputError('the z axis of the lidar frame lies in the ground plane: lidar2ego must map x forward, z up')
    return np.stack([-row[..., 3], -row[..., 0], -row[..., 1]], -1) / row[..., 2:3]


def sample_planes(samples: Sequence[Det3DDataSample]) -> np.ndarray:
    """Planes (B, 3) of samples in their present lidar frame, which augmentation may have moved.

    Raises InputError where a sample has no `lidar2ego`.
    """
    poses = []
    for sample in samples:
        if 'lidar2ego' not in sample.metainfo:
            raise InputError('a model with ground_z_m needs lidar2ego of every sample: let the pipeline pack it')
        pose = np.asarray(sample.metainfo['lidar2ego'], np.float64)
        poses.append(pose @ np.linalg.inv(sample.metainfo.get('aug_from_lidar', np.eye(4))))
    return ground_plane(np.stack(poses))


def follow_ground(img_from_lidar: np.ndarray, planes: np.ndarray, ground_z_m: float) -> np.ndarray:
    """Projections (B, F, N, 4, 4) of points whose height counts from the plane (B, 3), which lies at `ground_z_m`.

    A shear along z: x and y stay those of the lidar frame.
    """
    shear = np.tile(np.eye(4), (len(planes), 1, 1))
    shear[:, 2, :2], shear[:, 2, 3] = planes[:, 1:], planes[:, 0] - ground_z_m
    return img_from_lidar @ shear[:, None, None]


def ground_offset(boxes: Tensor, plane: np.ndarray, ground_z_m: float) -> Tensor:
    """How much higher (N,) in metres the plane (3,) is under `boxes` (N, >=2) than `ground_z_m`."""
    height, slope_x, slope_y = plane.tolist()
    return height - ground_z_m + slope_x * boxes[:, 0] + slope_y * boxes[:, 1]
