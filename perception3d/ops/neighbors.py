"""Neighbours of points in space: ball query, nearest points, and gather and interpolation of their features.

Rules and tie-breaks are those of mmcv's CUDA kernels, which take CUDA tensors. On the CPU a search reads only runs of
near points (`ops/point_runs.py`) and needs no matrix of distances.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit, prange
from torch import Tensor

from perception3d.checks import InputError
from perception3d.geometry.threads import share_threads_with_torch
from perception3d.ops.point_runs import Runs, cut_into_runs, fill_bounds

# Where mmcv's search for k neighbours starts: points further away than 1e5 m are not found.
_FAR_SQUARED = 1e10
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@njit(cache=True)
def _fill_run(
    index: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    run: int,
    center: tuple,
    bound: float,
    below: int,
    squared: npt.NDArray[Any],
) -> np.int32:
    """Writes squared distances (P,) of the points of a run; counts those up to `bound` with an index under `below`."""
    x, y, z = center
    close = np.int32(0)
    # No branch, so that the compiler takes several points at once.
    for t in range(squared.shape[0]):
        dx, dy, dz = x - columns[0, run, t], y - columns[1, run, t], z - columns[2, run, t]
        square = dx * dx + dy * dy + dz * dz
        squared[t] = square
        close += np.int32(1) if (square <= bound) & (index[run, t] < below) else np.int32(0)
    return close


@njit(cache=True)
def _ball(index, columns, low, high, center, inner, outer, out):
    """Fills `out` (S,) for one centre with the smallest indices in the ball, in order."""
    bounds, squared = np.empty(index.shape[0], columns.dtype), np.empty(index.shape[1], columns.dtype)
    fill_bounds(low, high, center[0], center[1], center[2], bounds)
    found, below = 0, np.int32(2**31 - 1)
    for run in range(index.shape[0]):
        if bounds[run] >= outer or _fill_run(index, columns, run, center, outer, below, squared) == 0:
            continue
        for t in range(index.shape[1]):
            new = index[run, t]
            if squared[t] < outer and (squared[t] >= inner or squared[t] == 0) and new < below:
                place = min(found, out.shape[0] - 1)
                while place > 0 and out[place - 1] > new:
                    out[place] = out[place - 1]
                    place -= 1
                out[place] = new
                found = min(found + 1, out.shape[0])
                if found == out.shape[0]:
                    below = out[found - 1]
    for k in range(found, out.shape[0]):
        out[k] = out[0] if found else 0


@njit(cache=True)
def _search_run(index, columns, run, center, squared, indices, best):
    last = best.shape[0] - 1
    if _fill_run(index, columns, run, center, best[last], np.int32(2**31 - 1), squared) == 0:
        return
    for t in range(squared.shape[0]):
        d, i = squared[t], index[run, t]
        if d < best[last] or (d == best[last] and i < indices[last]):
            place = last
            while place > 0 and (best[place - 1] > d or (best[place - 1] == d and indices[place - 1] > i)):
                best[place], indices[place] = best[place - 1], indices[place - 1]
                place -= 1
            best[place], indices[place] = d, i


@njit(cache=True)
def _nearest(index, columns, low, high, center, far, indices, best):
    """Fills `indices` and squared distances `best` (k,) for one centre, sorted by distance, then by index."""
    bounds, squared = np.empty(index.shape[0], columns.dtype), np.empty(index.shape[1], columns.dtype)
    fill_bounds(low, high, center[0], center[1], center[2], bounds)
    indices[:], best[:] = 0, far
    # The nearest run first: its points exclude most other runs.
    first = np.argmin(bounds)
    _search_run(index, columns, first, center, squared, indices, best)
    for run in range(bounds.shape[0]):
        if run != first and bounds[run] <= best[best.shape[0] - 1]:
            _search_run(index, columns, run, center, squared, indices, best)


@njit(cache=True, parallel=True)
def _ball_all(index, columns, low, high, centers, inner, outer, out):
    for row in prange(centers.shape[0] * centers.shape[1]):
        b, m = row // centers.shape[1], row % centers.shape[1]
        center = (centers[b, m, 0], centers[b, m, 1], centers[b, m, 2])
        _ball(index[b], columns[b], low[b], high[b], center, inner, outer, out[b, m])


@njit(cache=True, parallel=True)
def _nearest_all(index, columns, low, high, centers, far, indices, best):
    for row in prange(centers.shape[0] * centers.shape[1]):
        b, m = row // centers.shape[1], row % centers.shape[1]
        center = (centers[b, m, 0], centers[b, m, 1], centers[b, m, 2])
        _nearest(index[b], columns[b], low[b], high[b], center, far, indices[b, m], best[b, m])


@njit(cache=True, parallel=True)
def _gather(features, indices, out):
    for row in prange(features.shape[0] * features.shape[1]):
        b, c = row // features.shape[1], row % features.shape[1]
        source, index, target = features[b, c], indices[b], out[b, c]
        for k in range(index.shape[0]):
            target[k] = source[np.uint32(index[k])]


@njit(cache=True, parallel=True)
def _scatter_add(values, indices, sums):
    for row in prange(values.shape[0] * values.shape[1]):
        b, c = row // values.shape[1], row % values.shape[1]
        for k in range(indices.shape[1]):
            sums[b, c, indices[b, k]] += values[b, c, k]


@njit(cache=True, parallel=True)
def _interpolate(features, indices, weights, out):
    for row in prange(features.shape[0] * features.shape[1]):
        b, c = row // features.shape[1], row % features.shape[1]
        source = features[b, c]
        for n in range(indices.shape[1]):
            i, w = indices[b, n], weights[b, n]
            out[b, c, n] = w[0] * source[i[0]] + w[1] * source[i[1]] + w[2] * source[i[2]]


@njit(cache=True, parallel=True)
def _interpolate_backward(grad, indices, weights, sums):
    for row in prange(grad.shape[0] * grad.shape[1]):
        b, c = row // grad.shape[1], row % grad.shape[1]
        for n in range(indices.shape[1]):
            for j in range(3):
                sums[b, c, indices[b, n, j]] += grad[b, c, n] * weights[b, n, j]


def _exact(values: Tensor) -> Tensor:
    """The values in a dtype that the kernels know: float64 stays, all else becomes float32."""
    values = values.detach().contiguous()
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _runs_and_centers(points: Tensor, centers: Tensor) -> tuple[Runs, npt.NDArray[Any]]:
    shapes = tuple(points.shape), tuple(centers.shape)
    if any(len(shape) != 3 or shape[2] != 3 for shape in shapes) or len(points) != len(centers) or not shapes[0][1]:
        raise InputError(f'expected points (B, N >= 1, 3) and centres (B, M, 3), got {shapes[0]} and {shapes[1]}')
    share_threads_with_torch()
    points = _exact(points)
    return cut_into_runs(points.numpy()), _exact(centers).to(points.dtype).numpy()


def ball_query(points: Tensor, centers: Tensor, min_radius: float, max_radius: float, num_samples: int) -> Tensor:
    """Indices (B, M, num_samples) int32 of points (B, N, 3) near centres (B, M, 3), all in metres.

    The first points, by index, at min_radius <= distance < max_radius or at distance 0. The first found fills what
    remains; a centre without any has index 0 throughout.
    """
    if points.is_cuda:
        from mmcv.ops import ball_query as cuda_query

        return cuda_query(min_radius, max_radius, num_samples, points.contiguous(), centers.contiguous())
    runs, array = _runs_and_centers(points, centers)
    out = np.empty((*centers.shape[:2], num_samples), np.int32)
    inner, outer = (np.square(np.float32(radius)).astype(array.dtype) for radius in (min_radius, max_radius))
    _ball_all(*runs, array, inner, outer, out)
    return torch.from_numpy(out)


def nearest_points(points: Tensor, centers: Tensor, k: int, far: float = _FAR_SQUARED) -> tuple[Tensor, Tensor]:
    """The k nearest of points (B, N, 3) to each centre (B, M, 3), on the CPU: indices and squared distances (B, M, k).

    Nearest first, equally near ones by index. Points at a squared distance of `far` or more are not found: there, and
    where there are fewer than k points, the index is 0 and the squared distance `far`.
    """
    if k < 1:
        raise InputError(f'k must be 1 or more neighbours, got {k}')
    runs, array = _runs_and_centers(points, centers)
    indices = np.empty((*centers.shape[:2], k), np.int32)
    squared = np.empty(indices.shape, array.dtype)
    _nearest_all(*runs, array, array.dtype.type(far), indices, squared)
    return torch.from_numpy(indices), torch.from_numpy(squared)


def _checked(indices: Tensor, num_points: int) -> npt.NDArray[Any]:
    # The kernels do not check: a wrong index would read memory of something else.
    if indices.numel():
        low, high = (int(v) for v in indices.aminmax())
        if low < 0 or high >= num_points:
            raise InputError(
                f'indices reach from {low} to {high}: expected 0 to {num_points - 1} for {num_points} points'
            )
    share_threads_with_torch()
    return indices.detach().contiguous().numpy()


def gather_columns(features: Tensor, indices: Tensor, out: Tensor | None = None) -> Tensor:
    """Columns (B, C, K) of features (B, C, N) at indices (B, K), on the CPU, of any dtype; into `out` if given."""
    array = _checked(indices, features.shape[2])
    if out is None:
        out = features.new_empty(*features.shape[:2], indices.shape[1])
    words = _WORDS[features.element_size()]
    _gather(features.detach().contiguous().view(words).numpy(), array, out.view(words).numpy())
    return out


def scatter_add_columns(values: Tensor, indices: Tensor, num_points: int) -> Tensor:
    """Adjoint of `gather_columns`: sums (B, C, num_points) of values (B, C, K), in a fixed order, in float32 or 64."""
    values = _exact(values)
    sums = values.new_zeros(*values.shape[:2], num_points)
    _scatter_add(values.numpy(), _checked(indices, num_points), sums.numpy())
    return sums


def interpolate_columns(features: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Sums (B, C, n), on the CPU, of three columns of features (B, C, m), by indices and weights (B, n, 3)."""
    exact, array = _exact(features), _checked(indices, features.shape[2])
    out = exact.new_empty(*features.shape[:2], indices.shape[1])
    _interpolate(exact.numpy(), array, _exact(weights).to(exact.dtype).numpy(), out.numpy())
    return out.to(features.dtype)


def interpolate_columns_backward(grad: Tensor, indices: Tensor, weights: Tensor, num_points: int) -> Tensor:
    """Gradient (B, C, num_points), float32 or 64, of the features of `interpolate_columns` for `grad` (B, C, n)."""
    grad = _exact(grad)
    sums = grad.new_zeros(*grad.shape[:2], num_points)
    weights = _exact(weights).to(grad.dtype)
    _interpolate_backward(grad.numpy(), _checked(indices, num_points), weights.numpy(), sums.numpy())
    return sums
