"""Rigid transforms and pinhole cameras.

Matrices are 4x4 and called `a_from_b`: they take homogeneous points of frame b to frame a. Pixel coordinates are
continuous with the origin at the upper left corner of the upper left pixel: pixel (column i, row j) covers
[i, i+1) x [j, j+1), resizing by r multiplies coordinates by r, and a horizontal flip of a W wide image is u -> W - u.
"""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from perception3d.geometry.boxes import Array


def rotation_matrix(quaternion_wxyz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the rotation matrices (..., 3, 3) of quaternions (..., 4) in the order w, x, y, z, of any length."""
    # Not by scipy's Rotation: its last digits differ, and with them the numbers in info files.
    q = np.asarray(quaternion_wxyz, np.float64)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def quaternion_wxyz(rotation: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns the quaternion w, x, y, z, of either sign, of a rotation matrix (3, 3).

    The component that the diagonal shows to be large is computed first, and the others are divided by it (Mike Day,
    Converting a Rotation Matrix to a Quaternion, 2015).
    """
    # Not by scipy's Rotation: its last digits differ, and with them the numbers in result files.
    r = np.asarray(rotation, np.float64)
    by_x, by_y, by_z = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    xy, xz, yz = r[1, 0] + r[0, 1], r[0, 2] + r[2, 0], r[2, 1] + r[1, 2]
    if r[2, 2] < 0 and r[0, 0] > r[1, 1]:
        square = 1 + r[0, 0] - r[1, 1] - r[2, 2]
        parts = [by_x, square, xy, xz]
    elif r[2, 2] < 0:
        square = 1 - r[0, 0] + r[1, 1] - r[2, 2]
        parts = [by_y, xy, square, yz]
    elif r[0, 0] < -r[1, 1]:
        square = 1 - r[0, 0] - r[1, 1] + r[2, 2]
        parts = [by_z, xz, yz, square]
    else:
        square = 1 + r[0, 0] + r[1, 1] + r[2, 2]
        parts = [square, by_x, by_y, by_z]
    quaternion: npt.NDArray[np.float64] = np.array(parts) * (0.5 / np.sqrt(square))
    return quaternion


def yawed_quaternions(quaternion: npt.NDArray[Any], yaw_rad: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns (N, 4) w, x, y, z of rotations by N yaws about z, followed by the one of a quaternion (4,)."""
    w, x, y, z = quaternion
    cos, sin = np.cos(yaw_rad / 2), np.sin(yaw_rad / 2)
    return np.stack([w * cos - z * sin, x * cos + y * sin, y * cos - x * sin, z * cos + w * sin], -1)


def rigid(quaternion_wxyz: npt.ArrayLike, translation_m: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the transforms (..., 4, 4) float64 that rotate by quaternions (..., 4), then shift by (..., 3) metres."""
    rotation = rotation_matrix(quaternion_wxyz)
    matrix = np.zeros((*rotation.shape[:-2], 4, 4))
    matrix[..., :3, :3] = rotation
    matrix[..., :3, 3] = translation_m
    matrix[..., 3, 3] = 1
    return matrix


def invert_rigid(a_from_b: Array) -> Array:
    """Returns b_from_a of rotation-and-translation matrices (..., 4, 4); cheaper and more exact than a general inverse.

    Not for matrices that scale or mirror.
    """
    b_from_a = np.zeros_like(a_from_b) if isinstance(a_from_b, np.ndarray) else torch.zeros_like(a_from_b)
    rotation = _transposed(a_from_b[..., :3, :3])
    b_from_a[..., :3, :3] = rotation
    b_from_a[..., :3, 3:] = -(rotation @ a_from_b[..., :3, 3:])
    b_from_a[..., 3, 3] = 1
    return b_from_a


def _transposed(matrix: Array) -> Array:
    return np.swapaxes(matrix, -1, -2) if isinstance(matrix, np.ndarray) else matrix.transpose(-1, -2)


def chain(*matrices: Array) -> Array:
    """Returns the product of matrices, left to right: chain(a_from_b, b_from_c) is a_from_c. Leading axes broadcast."""
    product: Array = reduce(operator.matmul, matrices)
    return product


def transform(points: Array, a_from_b: Array) -> Array:
    """Returns points (..., N, 3) of frame b in frame a; a_from_b is (..., 4, 4) and its leading axes broadcast."""
    moved: Array = points @ _transposed(a_from_b[..., :3, :3]) + a_from_b[..., None, :3, 3]
    return moved
