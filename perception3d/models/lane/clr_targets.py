"""Lanes as rows of numbers, as the head of CLRNet in mmdet takes them: start, angle, length, x in each row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from perception3d.checks import InputError
from perception3d.models.lane.outputs import lane_targets

ABSENT = -1e5
"""x of rows that a lane does not reach: outside of every image, so that no loss counts it."""
FIELDS = 6
"""Columns before the x of the rows."""
# Nearer points, which a rotation makes of flat lanes, would let the spline swing.
_LEAST_STEP_PX = 1.0


def row_heights(height: int, num_points: int) -> npt.NDArray[Any]:
    """Returns y (num_points,) of the rows in pixels of the input, from the bottom to the top.

    Whole numbers are the middle of pixels, as where the head samples its feature maps: H - 1 to 0.
    """
    return np.linspace(height - 1, 0, num_points)


def encode_lane(
    points: npt.NDArray[Any], input_hw: tuple[int, int], num_points: int = 72
) -> npt.NDArray[np.float32] | None:
    """Returns the row (6 + num_points,) of a lane; None where it crosses fewer than two rows of the image.

    As the authors do: a cubic spline of x over y through the points, extended straight to the bottom of the image by
    the lowest two. Ours: of a lane that leaves the image and comes back the longest part counts.

    The columns: 0; 1; the lowest row as a share of the height, from the bottom; x of that row in pixels; the mean
    angle to the points above in units of pi, 0 to the right and 1 to the left; how many rows it crosses; x of each row
    in pixels, `ABSENT` where it is not.

    Args:
        points: (M, 2) of the input, whole numbers at the middle of pixels, from either end.
        input_hw: height and width of the input.
        num_points: rows.
    """
    height, width = input_hw
    path = _upwards(np.asarray(points, np.float64))
    if len(path) < 2:
        return None
    rows = row_heights(height, num_points)
    x = np.asarray(CubicSpline(path[::-1, 1], path[::-1, 0])(rows))
    (x0, y0), (x1, y1) = path[:2]
    below = rows > y0
    x[below] = x0 + (rows[below] - y0) * (x1 - x0) / (y1 - y0)
    start, count = _longest_run((x >= 0) & (x <= width - 1) & (rows >= path[-1, 1]))
    if count < 2:
        return None
    kept = slice(start, start + count)
    rise = np.arange(1, count) * height / (num_points - 1)
    encoded = np.full(FIELDS + num_points, ABSENT, np.float32)
    angle = np.arctan2(rise, x[kept][1:] - x[start]).mean() / math.pi
    encoded[:FIELDS] = 0, 1, start / (num_points - 1), x[start], angle, count
    encoded[FIELDS:][kept] = x[kept]
    return encoded


def _upwards(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns the points from the lowest end on, without those that do not go up."""
    if len(points) and points[0, 1] < points[-1, 1]:
        points = points[::-1]
    kept: list[npt.NDArray[Any]] = []
    for point in points:
        if not kept or point[1] <= kept[-1][1] - _LEAST_STEP_PX:
            kept.append(point)
    return np.array(kept).reshape(-1, 2)


def _longest_run(flags: npt.NDArray[Any]) -> tuple[int, int]:
    """Returns where the longest run of True begins, and its length."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    if not len(edges):
        return 0, 0
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    longest = int(lengths.argmax())
    return int(starts[longest]), int(lengths[longest])


def encoded_lanes(sample: Any, input_hw: tuple[int, int], num_points: int = 72) -> npt.NDArray[np.float32]:
    """Returns the rows (N, 6 + num_points) of `gt_lanes`, of stored pixels, moved by `img_from_stored`.

    Raises:
        InputError: the sample has no `gt_lanes` or no `img_from_stored`.
    """
    missing = [name for name in ('gt_lanes', 'img_from_stored') if name not in sample]
    if missing:
        name = sample.metainfo.get('frame_id', 'a sample')
        raise InputError(
            f'{name} has no {missing[0]}: train on a data set of lanes, and let PackLaneInputs pack its samples'
        )
    matrix = np.asarray(sample.metainfo['img_from_stored'], np.float64).reshape(-1, 4, 4)[0]
    encoded = []
    for line in sample.gt_lanes.polylines:
        # Matrices count from the corner of the image, pixels from the middle of the first one.
        moved = (line + 0.5) @ matrix[:2, :2].T + matrix[:2, 2] - 0.5
        row = encode_lane(moved, input_hw, num_points)
        if row is not None:
            encoded.append(row)
    return np.array(encoded, np.float32).reshape(-1, FIELDS + num_points)


def head_samples(
    samples: Sequence[Any], num_lanes: int, input_hw: tuple[int, int], num_points: int
) -> list[SimpleNamespace]:
    """Returns what the loss of mmdet's head reads of a batch: `lines_array` and `gt_sem_seg.sem_seg` (1, H, W).

    The arrays have as many rows as the image with most lanes; rows of none are 0, which the head leaves out.
    """
    masks = lane_targets(samples, num_lanes).mask
    lanes = [encoded_lanes(sample, input_hw, num_points) for sample in samples]
    most = max(map(len, lanes))
    padded = [np.pad(rows, ((0, most - len(rows)), (0, 0))) for rows in lanes]
    return [
        SimpleNamespace(lines_array=rows, gt_sem_seg=SimpleNamespace(sem_seg=mask[None]))
        for rows, mask in zip(padded, masks, strict=True)
    ]
