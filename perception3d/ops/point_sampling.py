"""Furthest point sampling (PointNet++, arXiv 1706.02413): each pick is the point furthest from all picks so far.

On the CPU a pick touches only the runs of near points (`ops/point_runs.py`) whose distances it can shorten; the
picks are those of the plain method. CUDA tensors go to mmcv.
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
from perception3d.ops.point_runs import cut_into_runs, fill_bounds

# mmcv's start value: a point further than 1e5 m from every pick counts as if it were there.
_FAR_SQUARED = np.float32(1e10)


def _tie_ranks(num_points: int) -> npt.NDArray[Any]:
    """Rank (N + 1,) int64 by which mmcv's CUDA kernel prefers one of equally far points: by thread, then by index.

    Its T threads, the largest power of two up to N and 1024, take the points k, k + T, ... in turn. Then the lower half
    of the threads meets the upper half, and so on: the thread whose lowest differing bit is 0 wins.
    """
    threads = min(1 << (num_points.bit_length() - 1), 1024)
    index = np.arange(num_points + 1, dtype=np.int64)
    thread, reversed_bits = index % threads, np.zeros_like(index)
    for _ in range(threads.bit_length() - 1):
        reversed_bits = reversed_bits * 2 + thread % 2
        thread //= 2
    return reversed_bits * (num_points + 1) + index


@njit(cache=True)
def _largest_bits(values: npt.NDArray[np.int32]) -> np.int32:
    # Floats that are not negative sort like the integers of their bits, and of integers a maximum is vectorised.
    largest = np.int32(-1)
    for k in range(values.shape[0]):
        largest = max(largest, values[k])
    return largest


@njit(cache=True)
def _pick(
    index: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    low: npt.NDArray[Any],
    high: npt.NDArray[Any],
    ranks: npt.NDArray[Any],
    out: npt.NDArray[Any],
) -> None:
    """Fills `out` (M,) for the runs of one cloud; `ranks` (N + 1,) decide between equally far points."""
    runs, size = index.shape
    squared = np.empty((runs, size), np.float32)
    for run in range(runs):
        for t in range(size):
            squared[run, t] = _FAR_SQUARED if index[run, t] < ranks.shape[0] - 1 else np.float32(-1.0)
    furthest = np.full(runs, _FAR_SQUARED, np.float32)
    bounds = np.empty(runs, np.float32)
    bits, furthest_bits = squared.view(np.int32), furthest.view(np.int32)
    place_run, place = 0, 0
    while index[place_run, place] != 0:
        place += 1
        if place == size:
            place_run, place = place_run + 1, 0
    out[0] = 0
    for pick in range(1, out.shape[0]):
        x, y, z = columns[0, place_run, place], columns[1, place_run, place], columns[2, place_run, place]
        fill_bounds(low, high, x, y, z, bounds)
        for run in range(runs):
            if bounds[run] < furthest[run]:
                for t in range(size):
                    dx, dy, dz = columns[0, run, t] - x, columns[1, run, t] - y, columns[2, run, t] - z
                    squared[run, t] = min(dx * dx + dy * dy + dz * dz, squared[run, t])
                furthest_bits[run] = _largest_bits(bits[run])
        best = _largest_bits(furthest_bits)
        rank = np.int64(-1)
        for run in range(runs):
            if furthest_bits[run] == best:
                for t in range(size):
                    if bits[run, t] == best and (rank < 0 or ranks[index[run, t]] < rank):
                        rank, place_run, place = ranks[index[run, t]], run, t
        out[pick] = index[place_run, place]


@njit(cache=True, parallel=True)
def _pick_all(index, columns, low, high, ranks, out):
    for b in prange(out.shape[0]):
        _pick(index[b], columns[b], low[b], high[b], ranks, out[b])


@njit(cache=True, parallel=True)
def _pick_by_matrix(distance, ranks, out):
    points = distance.shape[1]
    for b in prange(out.shape[0]):
        nearest = np.full(points, _FAR_SQUARED, np.float32)
        last = 0
        out[b, 0] = 0
        for pick in range(1, out.shape[1]):
            best, rank, place = np.float32(-1.0), np.int64(0), 0
            for k in range(points):
                nearest[k] = min(distance[b, last, k], nearest[k])
                if nearest[k] > best or (nearest[k] == best and ranks[k] < rank):
                    best, rank, place = nearest[k], ranks[k], k
            out[b, pick] = last = place


def furthest_point_sample(points: Tensor, num_samples: int) -> Tensor:
    """Indices (B, num_samples) int32 of points (B, N, 3) in metres, point 0 first.

    Distances are float32. Of equally far points the one that mmcv's CUDA kernel takes is taken; its own distances may
    differ in the last bit, as it fuses multiplications and additions. Once all points are taken, index 0 follows.
    """
    _require(points.ndim == 3 and points.shape[2] == 3, points, num_samples, '(B, N, 3)')
    if points.is_cuda:
        from mmcv.ops import furthest_point_sample as cuda_sample

        return cuda_sample(points.contiguous(), num_samples)
    xyz = points.detach().float().numpy()
    out = np.empty((len(xyz), num_samples), np.int32)
    runs = cut_into_runs(xyz)
    ranks = _tie_ranks(xyz.shape[1])
    if len(xyz) == 1:
        places, columns, low, high = (part[0] for part in runs)
        _pick(places, columns, low, high, ranks, out[0])
    else:
        share_threads_with_torch()
        _pick_all(*runs, ranks, out)
    return torch.from_numpy(out)


def furthest_point_sample_with_distances(distances: Tensor, num_samples: int) -> Tensor:
    """Indices (B, num_samples) int32 by a matrix of distances (B, N, N), as in `furthest_point_sample`."""
    square = distances.ndim == 3 and distances.shape[1] == distances.shape[2]
    _require(square, distances, num_samples, '(B, N, N)')
    if distances.is_cuda:
        from mmcv.ops import furthest_point_sample_with_dist as cuda_sample

        return cuda_sample(distances.contiguous(), num_samples)
    out = np.empty((len(distances), num_samples), np.int32)
    share_threads_with_torch()
    _pick_by_matrix(distances.detach().float().contiguous().numpy(), _tie_ranks(distances.shape[1]), out)
    return torch.from_numpy(out)


def _require(fits: bool, tensor: Tensor, num_samples: int, wanted: str) -> None:
    if not fits or not len(tensor) or not tensor.shape[1] or num_samples < 1:
        raise InputError(f'expected {wanted}, B, N >= 1, and 1 or more samples: {tuple(tensor.shape)}, {num_samples}')
