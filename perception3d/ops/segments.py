"""Maxima over runs of rows, such as the points of each pillar, with gradients."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from numba import njit, prange
from torch import Tensor

from perception3d.geometry.threads import share_threads_with_torch


def segment_max(rows: Tensor, counts: Tensor) -> Tensor:
    """Returns (V, C): the maximum of each run of `rows` (R, C); run v has counts[v] >= 1 rows, the runs lie in order.

    The gradient goes to the first row that holds the maximum. Float32 on the CPU by a kernel; other tensors by torch's
    own reduction, which shares the gradient among equal rows.
    """
    if rows.is_cuda or rows.dtype != torch.float32:
        run = torch.repeat_interleave(
            torch.arange(len(counts), device=rows.device), counts.long(), output_size=len(rows)
        )
        empty = rows.new_full((len(counts), rows.shape[1]), -torch.inf)
        return empty.scatter_reduce(0, run[:, None].expand_as(rows), rows, 'amax')
    return _SegmentMax.apply(rows, counts)


class _SegmentMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: Tensor) -> Tensor:
        ends = torch.cumsum(counts, 0, dtype=torch.int64)
        out = rows.new_empty((len(counts), rows.shape[1]))
        winners = torch.empty(out.shape, dtype=torch.int32)
        share_threads_with_torch()
        _max_of_runs(rows.detach().contiguous().numpy(), ends.numpy(), out.numpy(), winners.numpy())
        ctx.save_for_backward(winners)
        ctx.num_rows = len(rows)
        ctx.mark_non_differentiable(winners)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (winners,) = ctx.saved_tensors
        # A row belongs to one run, so no two winners meet.
        return grad.new_zeros((ctx.num_rows, grad.shape[1])).scatter_(0, winners.long(), grad), None


@njit(cache=True, parallel=True)
def _max_of_runs(
    rows: npt.NDArray[Any], ends: npt.NDArray[Any], out: npt.NDArray[Any], winners: npt.NDArray[Any]
) -> None:
    channels = rows.shape[1]
    for v in prange(ends.size):
        first = ends[v - 1] if v else 0
        for c in range(channels):
            out[v, c] = rows[first, c]
            winners[v, c] = first
        for r in range(first + 1, ends[v]):
            for c in range(channels):
                if rows[r, c] > out[v, c]:
                    out[v, c] = rows[r, c]
                    winners[v, c] = r
