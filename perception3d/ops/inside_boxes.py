"""Which points lie in which upright boxes: the one test that all users share, and their rows or counts.

Three rules are in use, and they differ only for points on a face. Each is data of the box, so that the kernel is one:

- Ours, for training data (`rows_in_boxes`): float64, all faces belong to the box, z is compared with bottom and top.
- The built-in world's (`count_in_boxes`): float64, all faces, but z is compared with half the height from the centre.
  Its boxes are given by their centres, bottom and top would round another way, and the counts are bytes of its tables.
- mmcv's (`points_in_boxes.py`): float32, from the centre, and the four sides do not belong to the box.

No torch here: tables of data sets are made without it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Box = tuple[float, float, float, float, float, float, float, float, float]

# No point of a box is further from its axis than its half diagonal, but for rounding.
_MARGIN_M = 1e-3


@njit(cache=True)
def box_at(columns: npt.NDArray[Any], k: int) -> Box:
    """Box k of columns (9, M).

    Rows: x, y and z of the place that the others are relative to; largest distance along and across the heading; lowest
    and highest z; cosine and sine of the yaw.
    """
    return (
        columns[0, k], columns[1, k], columns[2, k], columns[3, k], columns[4, k], columns[5, k], columns[6, k],
        columns[7, k], columns[8, k],
    )  # fmt: skip


@njit(cache=True)
def local(box: Box, x: float, y: float) -> tuple[float, float]:
    """Metres along and across the heading of a box, from its middle."""
    dx, dy = x - box[0], y - box[1]
    return dx * box[7] + dy * box[8], dy * box[7] - dx * box[8]


@njit(cache=True)
def inside(box: Box, x: float, y: float, z: float) -> bool:
    """Whether a point lies in a box; without branches, so that the compiler tests several at once."""
    along, across = local(box, x, y)
    up = z - box[2]
    return (up >= box[5]) & (up <= box[6]) & (abs(along) <= box[3]) & (abs(across) <= box[4])


@njit(cache=True)
def _columns(boxes: npt.NDArray[np.float64], centered: bool) -> npt.NDArray[np.float64]:
    """Columns (9, M) of boxes (M, 7) whose z is that of the centre, or of the bottom."""
    out = np.empty((9, len(boxes)))
    for k in range(len(boxes)):
        half = boxes[k, 5] * 0.5
        out[0, k], out[1, k] = boxes[k, 0], boxes[k, 1]
        out[2, k] = boxes[k, 2] if centered else 0.0
        out[3, k], out[4, k] = boxes[k, 3] * 0.5, boxes[k, 4] * 0.5
        out[5, k] = -half if centered else boxes[k, 2]
        out[6, k] = half if centered else boxes[k, 2] + boxes[k, 5]
        out[7, k], out[8, k] = math.cos(boxes[k, 6]), math.sin(boxes[k, 6])
    return out


@njit(cache=True)
def _near_points(points: npt.NDArray[Any], columns: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Rows of the points in the rectangle, along x and y, that holds all boxes."""
    low_x, high_x, low_y, high_y = np.inf, -np.inf, np.inf, -np.inf
    for k in range(columns.shape[1]):
        reach = math.hypot(columns[3, k], columns[4, k]) + _MARGIN_M
        low_x, high_x = min(low_x, columns[0, k] - reach), max(high_x, columns[0, k] + reach)
        low_y, high_y = min(low_y, columns[1, k] - reach), max(high_y, columns[1, k] + reach)
    near, count = np.empty(len(points), np.int64), 0
    for i in range(len(points)):
        x, y = float(points[i, 0]), float(points[i, 1])
        if x >= low_x and x <= high_x and y >= low_y and y <= high_y:
            near[count] = i
            count += 1
    return near[:count]


@njit(cache=True)
def _rows(
    points: npt.NDArray[Any], boxes: npt.NDArray[np.float64], centered: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Two passes: first the number of points in each box, then their rows, box after box, in the order of the cloud."""
    columns = _columns(boxes, centered)
    starts = np.zeros(len(boxes) + 1, np.int64)
    near = _near_points(points, columns)
    count = 0
    for i in near:
        x, y, z = float(points[i, 0]), float(points[i, 1]), float(points[i, 2])
        hit = False
        for k in range(len(boxes)):
            if inside(box_at(columns, k), x, y, z):
                starts[k + 1] += 1
                hit = True
        if hit:
            near[count] = i
            count += 1
    for k in range(len(boxes)):
        starts[k + 1] += starts[k]
    rows, place = np.empty(starts[-1], np.int64), starts.copy()
    for i in near[:count]:
        x, y, z = float(points[i, 0]), float(points[i, 1]), float(points[i, 2])
        for k in range(len(boxes)):
            if inside(box_at(columns, k), x, y, z):
                rows[place[k]] = i
                place[k] += 1
    return rows, starts


def rows_in_boxes(points: npt.NDArray[Any], boxes: npt.NDArray[Any]) -> list[npt.NDArray[np.int64]]:
    """Returns for each box the rows of the points (N, >=3) in it, faces included, in the order of the cloud.

    boxes (M, 7): x, y, z of the bottom's middle, l, w, h, yaw, in the frame of the points. Boxes may overlap.
    """
    boxes = np.ascontiguousarray(boxes, np.float64).reshape(-1, 7)
    rows, starts = _rows(points, boxes, False)
    return [rows[starts[k] : starts[k + 1]] for k in range(len(boxes))]


def count_in_boxes(points: npt.NDArray[Any], boxes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Counts the points (N, >=3) in each box (M, 7) of x, y, z of the centre, l, w, h, yaw, faces included: (M,)."""
    _, starts = _rows(points, np.ascontiguousarray(boxes, np.float64).reshape(-1, 7), True)
    return np.diff(starts)
