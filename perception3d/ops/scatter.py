"""Gather of feature rows by a table, and its adjoint: the two memory moves of the view transformation.

The CPU kernels copy whole rows and do no arithmetic, so they serve every dtype through an integer view of its bytes.
The adjoint adds in a fixed order, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from numba import njit, prange

from perception3d.geometry.threads import share_threads_with_torch
from perception3d.ops.streamed_rows import can_stream, stream_rows

# More than a core's share of the last cache: who reads the output next finds it in memory in any case.
_STREAM_FROM_BYTES = 32 << 20
_WORDS = ((8, torch.int64), (4, torch.int32), (2, torch.int16), (1, torch.int8))


def gather_rows(rows: torch.Tensor, table: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Returns (N, C): row `table[n]` of `rows` (R, C), exact zeros where `table` (N,) int32 is -1.

    `out` (N, C) contiguous receives the result. On a GPU the gather reads an appended row of zeros and never waits for
    the device.
    """
    if rows.is_cuda:
        return gather_rows_torch(rows, table)
    if out is None:
        out = rows.new_empty((table.numel(), rows.shape[1]))
    share_threads_with_torch()
    source, target = _as_words(rows.detach().contiguous(), out)
    copy = stream_rows if target.nbytes >= _STREAM_FROM_BYTES and can_stream(source, target) else _copy_rows
    copy(source, table.numpy(), target)
    return out


def gather_rows_torch(rows: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Does what `gather_rows` does by torch operations only: differentiable, traceable, on any device."""
    padded = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
    return padded.index_select(0, torch.where(table < 0, rows.shape[0], table))


def scatter_add_rows(values: torch.Tensor, table: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Returns (num_rows, C): the sum of the rows of `values` (N, C) that `table` (N,) sends to each row.

    The adjoint of `gather_rows`. Sums are float32 (float64 for float64 values) and come back in that dtype; on the CPU
    their order is fixed.
    """
    exact = torch.float64 if values.dtype == torch.float64 else torch.float32
    if values.is_cuda:
        sums = values.new_zeros((num_rows + 1, values.shape[1]), dtype=exact)
        return sums.index_add_(0, torch.where(table < 0, num_rows, table), values.to(exact))[:num_rows]
    sums = torch.zeros((num_rows, values.shape[1]), dtype=exact)
    share_threads_with_torch()
    parts = 1 if num_rows < 64 else numba.get_num_threads()
    values = values.contiguous()
    if values.dtype == torch.bfloat16:
        _add_bfloat16_rows(values.view(torch.int16).numpy().view(np.uint16), table.numpy(), sums.numpy(), parts)
    else:
        _add_rows(values.to(exact).numpy(), table.numpy(), sums.numpy(), parts)
    return sums


def _as_words(*tensors: torch.Tensor) -> list[npt.NDArray[Any]]:
    """Views contiguous tensors (.., C) of one dtype as the widest integers that fit the rows and the starts of all."""
    spans = [int(tensors[0].shape[1]) * tensors[0].element_size()]
    spans += [int(tensor.storage_offset()) * tensor.element_size() for tensor in tensors]
    dtype = next(dtype for size, dtype in _WORDS if all(span % size == 0 for span in spans))
    return [tensor.view(dtype).numpy() for tensor in tensors]


@njit(cache=True, parallel=True)
def _copy_rows(source, table, target):
    words = source.shape[1]
    for n in prange(table.size):
        row = table[n]
        if row < 0:
            for k in range(words):
                target[n, k] = 0
        elif words == 32:
            # The usual widths, 64 channels of 4 and of 2 bytes, as constants: the compiler unrolls them.
            for k in range(32):
                target[n, k] = source[row, k]
        elif words == 16:
            for k in range(16):
                target[n, k] = source[row, k]
        else:
            for k in range(words):
                target[n, k] = source[row, k]


@njit(cache=True, parallel=True)
def _add_rows(values, table, sums, parts):
    # Each part owns a range of target rows and reads the whole table: no two threads meet, and the order never varies.
    for part in prange(parts):
        low = sums.shape[0] * part // parts
        high = sums.shape[0] * (part + 1) // parts
        for n in range(table.size):
            row = table[n]
            if row >= low and row < high:
                for k in range(sums.shape[1]):
                    sums[row, k] += values[n, k]


@njit(cache=True, parallel=True)
def _add_bfloat16_rows(values, table, sums, parts):
    # A bfloat16 is the upper half of a float32, so widening is a shift.
    channels = sums.shape[1]
    for part in prange(parts):
        low = sums.shape[0] * part // parts
        high = sums.shape[0] * (part + 1) // parts
        bits = np.empty(channels, np.uint32)
        wide = bits.view(np.float32)
        for n in range(table.size):
            row = table[n]
            if row >= low and row < high:
                for k in range(channels):
                    bits[k] = np.uint32(values[n, k]) << np.uint32(16)
                for k in range(channels):
                    sums[row, k] += wide[k]
