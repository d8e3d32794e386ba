"""Clouds sorted along a space-filling curve and cut into runs of near points with a bounding box each, for search.

A run whose box is further from a place than the points found so far has no nearer point. The bound is computed by the
operations that compute a distance, which round monotonically: it never exceeds the distance of a point of the run, not
even in the last bit, so that a search that leaves out runs by it finds what a search of all points finds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from perception3d.checks import InputError

RUN_POINTS = 64


class Runs(NamedTuple):
    """B clouds of N points in R runs of `RUN_POINTS`; the last run is filled up with points at infinity.

    `places` (B, R, P) int32 is the place of each point in its cloud, N in what is filled up; `columns` (B, 3, R, P) are
    x, y, z; `low` and `high` (B, 3, R) are the corners of the runs' boxes.
    """

    places: npt.NDArray[np.int32]
    columns: npt.NDArray[Any]
    low: npt.NDArray[Any]
    high: npt.NDArray[Any]


def _spread_bits(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Puts two zero bits between the lower 10 bits of int32 values."""
    for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
        values = (values | (values << shift)) & mask
    return values


def _curve_order(cloud: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Indices (N,) of points (N, 3) along a Morton curve."""
    low = cloud.min(0)
    extent = float((cloud.max(0) - low).max()) or 1.0
    cells = ((cloud - low) * (1023.0 / extent)).astype(np.int32)
    x, y, z = (_spread_bits(cells[:, axis]) for axis in range(3))
    return np.argsort(x | (y << 1) | (z << 2), kind='stable')


def cut_into_runs(points: npt.NDArray[Any]) -> Runs:
    """Cuts clouds (B, N >= 1, 3), float32 or float64 and finite, into runs."""
    if not np.isfinite(points).all():
        raise InputError('points with NaN or infinity have no distance to others: drop such points first')
    clouds, size = points.shape[:2]
    starts = np.arange(0, size, RUN_POINTS)
    index = np.full((clouds, len(starts) * RUN_POINTS), size, np.int32)
    columns = np.full((clouds, 3, index.shape[1]), np.inf, points.dtype)
    for b in range(clouds):
        index[b, :size] = _curve_order(points[b])
        columns[b, :, :size] = points[b][index[b, :size]].T
    low = np.minimum.reduceat(columns[..., :size], starts, 2)
    high = np.maximum.reduceat(columns[..., :size], starts, 2)
    shape = len(starts), RUN_POINTS
    return Runs(index.reshape(clouds, *shape), columns.reshape(clouds, 3, *shape), low, high)


@njit(cache=True)
def fill_bounds(
    low: npt.NDArray[Any], high: npt.NDArray[Any], x: float, y: float, z: float, bounds: npt.NDArray[Any]
) -> None:
    """Writes for each run of one cloud (R,) the squared distance that no point of it is nearer than to x, y, z."""
    zero = x - x
    for run in range(bounds.shape[0]):
        dx = max(max(low[0, run] - x, x - high[0, run]), zero)
        dy = max(max(low[1, run] - y, y - high[1, run]), zero)
        dz = max(max(low[2, run] - z, z - high[2, run]), zero)
        bounds[run] = dx * dx + dy * dy + dz * dz
