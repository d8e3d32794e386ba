"""What mmdet3d's augmentation did to a frame, as one matrix, and boxes moved by such a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from perception3d.checks import InputError
from perception3d.geometry.boxes import Array


def aug_from_lidar(metas: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Returns the matrix (4, 4) float64 that takes points of the stored cloud to the augmented one.

    Reads mmdet3d's `transformation_3d_flow`, the order of the steps R (`pcd_rotation_angle`, radians about z), S
    (`pcd_scale_factor`), T (`pcd_trans`, metres), HF (mirrors y) and VF (mirrors x); the identity without any. A
    sample keeps one value of each: R, S and T that are applied twice with different values cannot be distinguished.

    Raises:
        InputError: another step.
    """
    matrix = np.eye(4)
    for step in metas.get('transformation_3d_flow') or ():
        move = np.eye(4)
        if step == 'R':
            angle = float(metas['pcd_rotation_angle'])
            move[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        elif step == 'S':
            move[:3, :3] *= float(metas['pcd_scale_factor'])
        elif step == 'T':
            move[:3, 3] = np.asarray(metas['pcd_trans'], np.float64)
        elif step in ('HF', 'VF'):
            axis = 1 if step == 'HF' else 0
            move[axis, axis] = -1
        else:
            raise InputError(f'a view has the unknown step {step!r}: R, S, T, HF and VF can be undone')
        matrix = move @ matrix
    return matrix


def move_boxes(boxes: Array, b_from_a: npt.NDArray[Any]) -> Array:
    """Returns boxes (N, 7 or 9) of frame a in frame b: x, y, z of the bottom, l, w, h, yaw, and where known vx, vy.

    b_from_a (4, 4) rotates about z, scales all axes by one factor, shifts, and may mirror x or y; sizes and velocities
    are scaled with it, headings rotated and mirrored. Returned yaws are in [-pi, pi].
    """
    scale = abs(np.linalg.det(b_from_a[:3, :3])) ** (1 / 3)
    if isinstance(boxes, torch.Tensor):
        matrix = torch.as_tensor(b_from_a, dtype=boxes.dtype, device=boxes.device)
        cos, sin, atan2, stack, cat = torch.cos, torch.sin, torch.atan2, torch.stack, torch.cat
    else:
        boxes = np.asarray(boxes)
        matrix = np.asarray(b_from_a, boxes.dtype)
        cos, sin, atan2, stack, cat = np.cos, np.sin, np.arctan2, np.stack, np.concatenate
    centers = _turn(boxes[:, :3], matrix[:3, :3]) + matrix[:3, 3]
    heading = _turn(stack([cos(boxes[:, 6]), sin(boxes[:, 6])], -1), matrix[:2, :2])
    # Without velocities the last part is (N, 0).
    velocities = _turn(boxes[:, 7:9], matrix[:2, :2]) if boxes.shape[1] > 7 else boxes[:, 7:]
    return cat([centers, boxes[:, 3:6] * scale, atan2(heading[:, 1:], heading[:, :1]), velocities], -1)


def _turn(vectors: Array, matrix: Array) -> Array:
    # Not a matrix product, which autocast would round to bf16.
    turned: Array = (vectors[:, None, :] * matrix).sum(-1)
    return turned
