"""3D boxes as plain arrays: corners, bird's-eye views, periodic angles.

A box is (x, y, z_bottom, l, w, h, yaw) in metres and radians: z is the height of the bottom face, l lies along the
heading, yaw is 0 at +x and grows counter-clockwise (the convention of mmdet3d >= 1.0). Further columns are ignored.
Every function takes a numpy array or a torch tensor and returns the same type.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

Array = TypeVar('Array', npt.NDArray[Any], torch.Tensor)

# Corner order of mmdet3d: x0y0z0, x0y0z1, x0y1z1, x0y1z0, then the same four at the front (x1).
_CORNER_SIGNS = ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0))


def limit_period(value: Array, offset: float = 0.5, period: float = 2 * math.pi) -> Array:
    """Shifts values by whole periods into [-offset * period, (1 - offset) * period); any shape."""
    floor = torch.floor if isinstance(value, torch.Tensor) else np.floor
    shifted: Array = value - floor(value / period + offset) * period
    return shifted


def corners(boxes: Array) -> Array:
    """Corners of boxes (N, >=7) as (N, 8, 3), in mmdet3d's order: four at the rear, then four at the front.

    Within each four: right-bottom, right-top, left-top, left-bottom, seen along the heading.
    """
    if isinstance(boxes, torch.Tensor):
        unit = boxes.new_tensor(_CORNER_SIGNS) - boxes.new_tensor([0.5, 0.5, 0.0])
        cos, sin, stack = torch.cos(boxes[:, 6]), torch.sin(boxes[:, 6]), torch.stack
    else:
        boxes = np.asarray(boxes)
        unit = (np.array(_CORNER_SIGNS) - [0.5, 0.5, 0.0]).astype(boxes.dtype)
        cos, sin, stack = np.cos(boxes[:, 6]), np.sin(boxes[:, 6]), np.stack
    local = boxes[:, None, 3:6] * unit
    x = local[..., 0] * cos[:, None] - local[..., 1] * sin[:, None]
    y = local[..., 0] * sin[:, None] + local[..., 1] * cos[:, None]
    points: Array = stack([x, y, local[..., 2]], -1) + boxes[:, None, :3]
    return points


def to_bev(boxes: Array) -> Array:
    """Bird's-eye views (..., 5) as (x, y, l, w, yaw) of boxes (..., >=7)."""
    return boxes[..., [0, 1, 3, 4, 6]]


def nearest_bev(bev: Array) -> Array:
    """Axis-aligned rectangles (..., 4) as (x0, y0, x1, y1) of bird's-eye boxes (..., 5).

    The yaw is rounded to the nearest multiple of 90 degrees, sizes are kept ("nearest BEV" of mmdet3d).
    """
    if isinstance(bev, torch.Tensor):
        where, stack, absolute = torch.where, torch.stack, torch.abs
    else:
        where, stack, absolute = np.where, np.stack, np.abs
    x, y, length, width, yaw = (bev[..., i] for i in range(5))
    crosswise = absolute(limit_period(yaw, 0.5, math.pi)) > math.pi / 4
    half_x = where(crosswise, width, length) / 2
    half_y = where(crosswise, length, width) / 2
    return stack([x - half_x, y - half_y, x + half_x, y + half_y], -1)


def aligned_iou(first: Array, second: Array, smallest_union: float = 1e-6) -> Array:
    """IoU (...) of axis-aligned rectangles (..., 4) that broadcast against each other.

    `smallest_union` (square metres) keeps the ratio of two empty rectangles at 0.
    """
    if isinstance(first, torch.Tensor):
        low, high = torch.maximum, torch.minimum
    else:
        low, high = np.maximum, np.minimum
    x0, y0, x1, y1 = (first[..., i] for i in range(4))
    u0, v0, u1, v1 = (second[..., i] for i in range(4))
    overlap = (high(x1, u1) - low(x0, u0)).clip(0) * (high(y1, v1) - low(y0, v0)).clip(0)
    union = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - overlap
    iou: Array = overlap / union.clip(smallest_union)
    return iou
