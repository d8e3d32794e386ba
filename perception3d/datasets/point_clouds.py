"""LiDAR clouds on disk, and which of their points lie in an image; without torch, to start fast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from perception3d.checks import InputError
from perception3d.files import read_array, read_points

_MISSING = 'check the data root and that the archive was unpacked completely'


def read_cloud(path: str | Path, num_features: int, allow_empty: bool = False, hint: str = '') -> np.ndarray:
    """Returns a cloud as (N, num_features) float32: x, y, z in metres, then what the sensor gives, such as intensity.

    A `.npy` file holds such an array in any float type; every other file is raw float32, as KITTI's `.bin`. With
    `allow_empty` it may hold no points; a line is printed for raw data of 0 bytes, which may be a broken copy. `hint`
    is what to do about a file that does not have `num_features` floats a point.

    Raises:
        InputError: the file is missing, truncated, empty, or of another shape, or holds NaN or infinity. All of them
            name the file: such a cloud would train or test something without a word.
    """
    if str(path).endswith('.npy'):
        points = _read_npy(Path(path), num_features, hint)
    else:
        points = read_points(path, num_features, hint)
    if not len(points) and not allow_empty:
        raise InputError(f'{path} holds no points: leave the frame out of its split file, or copy the file again')
    if not len(points) and not str(path).endswith('.npy'):
        print(f'{path} holds no points: if it should hold some, copy the file again')
    # A sum is finite only if all its terms are; it is twice as fast as asking every number.
    with np.errstate(invalid='ignore'):
        total = points.sum(dtype=np.float64)
    if not math.isfinite(total):
        wrong = np.flatnonzero(~np.isfinite(points).all(1))
        raise InputError(
            f'{path} holds NaN or infinity in {len(wrong)} of {len(points)} points (first: point {wrong[0]}): '
            'remove those points from the file'
        )
    return points


def read_sweep(sweep: Mapping[str, Any], time_s: float, num_features: int, remove_close: bool) -> np.ndarray:
    """Returns an earlier sweep as (N, num_features) float32 in the LiDAR frame of its keyframe.

    Column 4 becomes the age in seconds, column 3 stays. `sweep` is an entry of an info's `lidar_sweeps`, whose
    `lidar2sensor` takes points of the keyframe to the sweep; `time_s` is the keyframe's time. With `remove_close`
    points less than 1 m from the sensor along both x and y are left out: they are on the vehicle itself.
    """
    points = read_cloud(sweep['lidar_points']['lidar_path'], num_features)
    if remove_close:
        points = points[(np.abs(points[:, :2]) >= 1.0).any(1)]
    sensor_from_lidar = np.array(sweep['lidar_points']['lidar2sensor'], np.float64)
    points[:, :3] = (points[:, :3] - sensor_from_lidar[:3, 3]) @ sensor_from_lidar[:3, :3]
    points[:, 4] = time_s - sweep['timestamp']
    return points


def _read_npy(path: Path, num_features: int, hint: str) -> np.ndarray:
    points = read_array(path, _MISSING)
    if points.ndim != 2 or points.shape[1] != num_features or not np.issubdtype(points.dtype, np.floating):
        raise InputError(
            f'{path} holds {points.dtype} of shape {points.shape}: expected floats of shape (N, {num_features})'
            + (f'; {hint}' if hint else '')
        )
    return np.ascontiguousarray(points, np.float32)


@njit(cache=True)
def _in_image(points: np.ndarray, img_from_lidar: np.ndarray, height: float, width: float) -> np.ndarray:
    inside = np.empty(len(points), np.bool_)
    m = img_from_lidar
    for i in range(len(points)):
        x, y, z = float(points[i, 0]), float(points[i, 1]), float(points[i, 2])
        depth = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
        u = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
        v = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
        inside[i] = (depth > 0) & (u >= 0) & (u < width * depth) & (v >= 0) & (v < height * depth)
    return inside


def in_image(points: np.ndarray, img_from_lidar: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Returns a mask (N,) of the points (N, >=3) that a camera sees: before it and within its image.

    img_from_lidar (4, 4) takes a point to (u*d, v*d, d, 1). KITTI labels only what camera 2 sees, so that a detector
    is trained and tested on these points (about a fifth of a scan).
    """
    return _in_image(points, np.ascontiguousarray(img_from_lidar, np.float64), float(image_hw[0]), float(image_hw[1]))
