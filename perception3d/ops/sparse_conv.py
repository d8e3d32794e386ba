"""Sparse convolutions on the CPU, forward and backward, for spconv's pairs of inputs and outputs.

spconv's own loops on the CPU lose additions when torch uses several threads. Here each output has one thread, which
adds up its neighbours in a fixed order, so that results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit, prange
from torch import Tensor

from perception3d.geometry.threads import share_threads_with_torch

# Outputs that one thread takes at a time: the weights of one kernel position serve all of them from the nearest cache.
_BLOCK = 128


def sparse_conv(
    features: Tensor, filters: Tensor, pairs: Tensor, counts: Tensor, num_out: int, inverse: bool, subm: bool
) -> Tensor:
    """Convolves active sites.

    Args:
        features: (N, C) of the inputs, on the CPU.
        filters: (K, ..., C) with V kernel positions between, as spconv 2 keeps them.
        pairs: (2, V, L) int32: inputs and outputs of each kernel position.
        counts: (V,) number of pairs of each position; for a submanifold convolution the first half is enough.
        num_out: M.
        inverse: whether inputs and outputs are swapped.
        subm: whether it is a submanifold convolution, whose centre maps every site to itself.

    Returns:
        (M, K), in the type of `features`.
    """
    weight = _by_position(filters).transpose(1, 2)
    table = _table(pairs, counts, num_out, inverse, subm)
    return _run(features, weight, table)


def sparse_conv_backward(
    features: Tensor, filters: Tensor, grad: Tensor, pairs: Tensor, counts: Tensor, inverse: bool, subm: bool
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of `features` (N, C) and of `filters`, from that of the output (M, K)."""
    by_position = _by_position(filters)
    table = _table(pairs, counts, len(features), not inverse, subm)
    into_features = _run(grad, by_position, table)
    outputs, inputs = grad.to(features.dtype), features
    into_weight = torch.zeros_like(by_position, dtype=features.dtype)
    numbers = _numbers(counts, subm)
    for k, count in enumerate(numbers):
        if subm and k == len(numbers) // 2:
            torch.mm(outputs.T, inputs, out=into_weight[k])
        elif count:
            given = inputs.index_select(0, pairs[int(inverse), k, :count])
            taken = outputs.index_select(0, pairs[int(not inverse), k, :count])
            torch.mm(taken.T, given, out=into_weight[k])
    return into_features.to(features.dtype), into_weight.transpose(0, 1).reshape(filters.shape).to(filters.dtype)


def _by_position(filters: Tensor) -> Tensor:
    """Returns the filters (K, ..., C) as (V, K, C)."""
    return filters.detach().reshape(len(filters), -1, filters.shape[-1]).transpose(0, 1)


def _numbers(counts: Tensor, subm: bool) -> list[int]:
    numbers = counts.tolist()
    if subm:
        # The second half mirrors the first; the centre has no pairs.
        half = numbers[: len(numbers) // 2]
        numbers = [*half, 0, *half[::-1]]
    return numbers


def _table(pairs: Tensor, counts: Tensor, num_out: int, inverse: bool, subm: bool) -> npt.NDArray[Any]:
    """Returns (M, V) int32: the input of each output at each kernel position, or -1."""
    numbers = np.asarray(_numbers(counts, subm))
    table = np.full((num_out, len(numbers)), -1, np.int32)
    _fill_table(pairs[int(inverse)].numpy(), pairs[int(not inverse)].numpy(), numbers, table)
    if subm:
        table[:, len(numbers) // 2] = np.arange(num_out)
    return table


def _run(features: Tensor, weight: Tensor, table: npt.NDArray[Any]) -> Tensor:
    """Multiplies and adds; weight (V, C, K)."""
    dtype = features.dtype if features.dtype in (torch.float32, torch.float64) else torch.float32
    rows = features.detach().to(dtype).contiguous().numpy()
    weight = weight.to(dtype)
    if rows.shape[1] % 2:
        rows, weight = np.pad(rows, ((0, 0), (0, 1))), torch.nn.functional.pad(weight, (0, 0, 0, 1))
    out = np.empty((len(table), weight.shape[2]), rows.dtype)
    share_threads_with_torch()
    _convolve(rows, weight.contiguous().numpy(), table, out)
    return torch.from_numpy(out).to(features.dtype)


@njit(cache=True)
def _fill_table(inputs, outputs, numbers, table):
    for k in range(len(numbers)):
        for i in range(numbers[k]):
            table[outputs[k, i], k] = inputs[k, i]


@njit(cache=True, parallel=True, fastmath={'contract', 'reassoc', 'nsz'})
def _convolve(features, weight, table, out):
    """Adds the products of all positions; an even number of channels."""
    positions, channels, outputs = weight.shape
    for block in prange((len(table) + _BLOCK - 1) // _BLOCK):
        first, last = block * _BLOCK, min(len(table), (block + 1) * _BLOCK)
        sums = np.zeros((_BLOCK, outputs), out.dtype)
        active = np.empty(_BLOCK, np.int64)
        for k in range(positions):
            count = 0
            for row in range(first, last):
                if table[row, k] >= 0:
                    active[count] = row
                    count += 1
            # Four outputs share what is read of the weights, two inputs what is read and written of the sums.
            for i in range(0, count - 3, 4):
                r0, r1, r2, r3 = active[i], active[i + 1], active[i + 2], active[i + 3]
                x0, x1 = features[table[r0, k]], features[table[r1, k]]
                x2, x3 = features[table[r2, k]], features[table[r3, k]]
                y0, y1, y2, y3 = sums[r0 - first], sums[r1 - first], sums[r2 - first], sums[r3 - first]
                for c in range(0, channels, 2):
                    u, v = weight[k, c], weight[k, c + 1]
                    a0, a1, a2, a3 = x0[c], x1[c], x2[c], x3[c]
                    b0, b1, b2, b3 = x0[c + 1], x1[c + 1], x2[c + 1], x3[c + 1]
                    for o in range(outputs):
                        p, q = u[o], v[o]
                        y0[o] += a0 * p + b0 * q
                        y1[o] += a1 * p + b1 * q
                        y2[o] += a2 * p + b2 * q
                        y3[o] += a3 * p + b3 * q
            for i in range(count - count % 4, count):
                x, y = features[table[active[i], k]], sums[active[i] - first]
                for c in range(0, channels, 2):
                    a, b, u, v = x[c], x[c + 1], weight[k, c], weight[k, c + 1]
                    for o in range(outputs):
                        y[o] += a * u[o] + b * v[o]
        for row in range(first, last):
            out[row] = sums[row - first]
