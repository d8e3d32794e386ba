"""The smallest values of each row of a matrix on the CPU, as `torch.topk` finds them, in about half its time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit, prange
from torch import Tensor

from perception3d.checks import InputError
from perception3d.geometry.threads import share_threads_with_torch

# Lanes of a row for each value that is wanted; more make the bound tighter, and slower to compute.
_LANES = 4
_BLOCK = 16
# From here on a second pool of threads next to torch's gives more than it costs.
_PARALLEL_VALUES = 2**20


@njit(cache=True)
def _kth_smallest(values: npt.NDArray[Any], count: int, k: int) -> float:
    """Reorders the first `count` values (Hoare's quickselect) and returns the one of rank k, from 0."""
    low, high = 0, count - 1
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]


@njit(cache=True)
def _upper_bound(row: npt.NDArray[Any], k: int, lanes: int) -> float:
    """A value that at least k of the row do not exceed: each of the k lanes with the smallest minima has one.

    Lane j has the columns j, j + lanes, ...: neighbouring columns, whose values are alike, are in different lanes.
    """
    least = np.full(lanes, np.inf, row.dtype)
    for first in range(0, len(row), lanes):
        part = row[first : first + lanes]
        for j in range(len(part)):
            least[j] = part[j] if part[j] < least[j] else least[j]
    return _kth_smallest(least, lanes, k - 1)


@njit(cache=True)
def _select(row: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Fills `out` (k,) with the columns of the k smallest values, in order of columns."""
    k, lanes = len(out), min(len(row), _LANES * len(out))
    bound = _upper_bound(row, k, lanes)
    # Below the bound are columns of fewer than k lanes.
    most = (k - 1) * ((len(row) + lanes - 1) // lanes) + k
    near, columns = np.empty(most, row.dtype), np.empty(most, np.int64)
    count = ties = 0
    for first in range(0, len(row), _BLOCK):
        part = row[first : first + _BLOCK]
        hits = np.int32(0)
        # No branch, so that the compiler takes several at once.
        for j in range(len(part)):
            hits += np.int32(1) if part[j] <= bound else np.int32(0)
        if hits:
            for j in range(len(part)):
                x = part[j]
                if x < bound or (x == bound and ties < k):
                    near[count], columns[count] = x, first + j
                    count += 1
                    ties += x == bound
    if count < k:  # the rest is NaN
        out[:count], out[count:] = columns[:count], 0
        return
    last = _kth_smallest(near[:count].copy(), count, k - 1)
    equal, filled = k, 0
    for i in range(count):
        equal -= near[i] < last
    for i in range(count):
        if near[i] < last or (near[i] == last and equal > 0):
            equal -= near[i] == last
            out[filled] = columns[i]
            filled += 1


@njit(cache=True)
def _select_serial(rows, out):
    for i in range(len(rows)):
        _select(rows[i], out[i])


@njit(cache=True, parallel=True)
def _select_parallel(rows, out):
    for i in prange(len(rows)):
        _select(rows[i], out[i])


def smallest_columns(values: Tensor, k: int) -> Tensor:
    """Columns (N, k) int64 of the k smallest values in each row of `values` (N, V), on the CPU, in order of columns.

    Of equal values the first ones count. NaN is never small: where a row has fewer than k numbers, column 0 fills what
    remains. While torch has one thread, as in the workers of a data loader, no other is started.

    Raises:
        InputError: `values` is not a matrix of k columns or more.
    """
    if values.dim() != 2 or not 1 <= k <= values.shape[1]:
        raise InputError(f'expected values (N, V) and 1 to V columns of them, got {tuple(values.shape)} and {k}')
    values = values.detach().contiguous()
    rows = (values if values.dtype in (torch.float32, torch.float64) else values.float()).numpy()
    out = np.empty((len(rows), k), np.int64)
    if torch.get_num_threads() > 1 and rows.size >= _PARALLEL_VALUES:
        share_threads_with_torch()
        _select_parallel(rows, out)
    else:
        _select_serial(rows, out)
    return torch.from_numpy(out)
