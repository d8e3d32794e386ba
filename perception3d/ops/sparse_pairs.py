"""Which input meets which output at each position of a sparse convolution's kernel, on the CPU.

Sites are looked up in a hash table as large as the sites need. The lists are spconv's: see `sparse_conv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit, prange
from torch import Tensor

from perception3d.checks import InputError
from perception3d.geometry.threads import share_threads_with_torch

_SCATTER = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio: neighbouring sites get far entries


def submanifold_pairs(
    indices: Tensor, shape: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Lists the pairs of sites (N, 4), int32 as batch, z, y, x, whose outputs are the sites themselves.

    Returns pairs (2, V, N) int32, of which the second half of the V positions mirrors the first and the centre stays
    empty, and the counts (V,) int32. InputError for an even kernel.
    """
    if any(size % 2 == 0 for size in kernel):
        raise InputError(f'a submanifold convolution has odd kernels, got {tuple(kernel)}')
    offsets = _offsets(kernel, dilation) - np.array(dilation) * (np.array(kernel) // 2)
    pairs = np.empty((2, len(offsets), len(indices)), np.int32)
    counts = np.zeros(len(offsets), np.int32)
    share_threads_with_torch()
    _submanifold(indices.contiguous().numpy(), np.array(shape), offsets, _bits(len(indices)), pairs, counts)
    return torch.from_numpy(pairs), torch.from_numpy(counts)


def strided_pairs(
    indices: Tensor,
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Lists the outputs (M, 4) that sites (N, 4) reach, in the order in which they are reached; and the pairs.

    Returns outputs, pairs (2, V, N) int32 and counts (V,) int32. InputError where nothing is left of the shape.
    """
    size, step, pad = np.array(shape), np.array(stride), np.array(padding)
    reach = np.array(dilation) * (np.array(kernel) - 1) + 1
    out_shape = (size + 2 * pad - reach) // step + 1
    if (out_shape < 1).any():
        raise InputError(f'a kernel of {tuple(kernel)} leaves nothing of the shape {tuple(shape)}')
    offsets = _offsets(kernel, dilation)
    pairs = np.empty((2, len(offsets), len(indices)), np.int32)
    counts = np.zeros(len(offsets), np.int32)
    # A site reaches at most this many outputs: the kernel's places along an axis that leave the same remainder.
    most = len(indices) * int(np.prod(-(-np.array(kernel) // (step // np.gcd(step, np.array(dilation))))))
    outputs = np.empty((most, 4), np.int32)
    sites = indices.contiguous().numpy()
    number = _strided(sites, out_shape, offsets, step, pad, _bits(most), pairs, counts, outputs)
    return torch.from_numpy(outputs[:number].copy()), torch.from_numpy(pairs), torch.from_numpy(counts)


def _offsets(kernel: Sequence[int], dilation: Sequence[int]) -> npt.NDArray[Any]:
    """Returns (V, 3) places in a kernel, the last axis fastest."""
    grid = np.meshgrid(*(np.arange(size) * step for size, step in zip(kernel, dilation, strict=True)), indexing='ij')
    return np.stack(grid, -1).reshape(-1, 3)


def _bits(count: int) -> int:
    """Size of a hash table that is at most half full, as a power of two."""
    return max(4, int(2 * count).bit_length())


@njit(cache=True, inline='always')
def _find(keys: npt.NDArray[np.int64], bits: int, key: int) -> np.int64:
    """Returns the entry that holds `key`, or the empty one where it belongs."""
    mask = (1 << bits) - 1
    at = np.int64((np.uint64(key) * _SCATTER) >> np.uint64(64 - bits))
    while keys[at] != key and keys[at] >= 0:
        at = (at + 1) & mask
    return at


@njit(cache=True, parallel=True)
def _submanifold(sites, shape, offsets, bits, pairs, counts):
    keys, numbers = np.full(1 << bits, -1, np.int64), np.empty(1 << bits, np.int32)
    for i in range(len(sites)):
        b, z, y, x = np.int64(sites[i, 0]), sites[i, 1], sites[i, 2], sites[i, 3]
        key = ((b * shape[0] + z) * shape[1] + y) * shape[2] + x
        at = _find(keys, bits, key)
        keys[at], numbers[at] = key, i
    half = len(offsets) // 2
    for k in prange(half):
        mirror, count = len(offsets) - 1 - k, 0
        for i in range(len(sites)):
            z, y, x = sites[i, 1] + offsets[k, 0], sites[i, 2] + offsets[k, 1], sites[i, 3] + offsets[k, 2]
            if not (0 <= z < shape[0] and 0 <= y < shape[1] and 0 <= x < shape[2]):
                continue
            key = ((np.int64(sites[i, 0]) * shape[0] + z) * shape[1] + y) * shape[2] + x
            at = _find(keys, bits, key)
            if keys[at] == key:
                j = numbers[at]
                pairs[0, k, count], pairs[1, k, count] = j, i
                pairs[0, mirror, count], pairs[1, mirror, count] = i, j
                count += 1
        counts[k] = counts[mirror] = count


@njit(cache=True)
def _strided(sites, out_shape, offsets, stride, padding, bits, pairs, counts, outputs):
    keys, numbers = np.full(1 << bits, -1, np.int64), np.empty(1 << bits, np.int32)
    found = 0
    for i in range(len(sites)):
        for k in range(len(offsets)):
            z = sites[i, 1] + padding[0] - offsets[k, 0]
            y = sites[i, 2] + padding[1] - offsets[k, 1]
            x = sites[i, 3] + padding[2] - offsets[k, 2]
            if z < 0 or y < 0 or x < 0 or z % stride[0] or y % stride[1] or x % stride[2]:
                continue
            z, y, x = z // stride[0], y // stride[1], x // stride[2]
            if z >= out_shape[0] or y >= out_shape[1] or x >= out_shape[2]:
                continue
            key = ((np.int64(sites[i, 0]) * out_shape[0] + z) * out_shape[1] + y) * out_shape[2] + x
            at = _find(keys, bits, key)
            if keys[at] < 0:
                keys[at], numbers[at] = key, found
                outputs[found, 0], outputs[found, 1] = sites[i, 0], z
                outputs[found, 2], outputs[found, 3] = y, x
                found += 1
            pairs[0, k, counts[k]], pairs[1, k, counts[k]] = i, numbers[at]
            counts[k] += 1
    return found
