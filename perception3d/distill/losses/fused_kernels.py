"""Feature imitation on the CPU where the channels lie innermost: loss and gradient in two passes over the maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from perception3d.geometry.threads import share_threads_with_torch

# Cells that one piece of work takes.
_CELLS = 1024


def can_imitate(student: Tensor, teacher: Tensor, weights: Tensor | None) -> bool:
    """Whether `HostImitation` takes these maps: on the CPU, of one shape and dtype, with their channels innermost."""
    maps = (student, teacher)
    like = student.shape == teacher.shape and student.dtype == teacher.dtype in (torch.float32, torch.float64)
    return (
        like
        and all(x.device.type == 'cpu' and x.is_contiguous(memory_format=torch.channels_last) for x in maps)
        and (weights is None or weights.shape == (len(student), 1, *student.shape[2:]))
    )


class HostImitation(torch.autograd.Function):
    """Mean of W (S - n(T))^2, n as `standardise` with `eps`, with the gradient of the student alone.

    Args:
        student, teacher: S and T, maps (B, C, X, Y) that `can_imitate`.
        weights: W (B, 1, X, Y), or None for 1.
        eps: added to the variances.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weights: Tensor | None, eps: float) -> Tensor:
        mine, theirs = (x.detach().permute(0, 2, 3, 1).flatten(0, 2).numpy() for x in (student, teacher))
        weigh = np.ones(1, mine.dtype) if weights is None else weights.detach().to(student.dtype).flatten().numpy()
        share_threads_with_torch()
        pieces = -(-len(mine) // _CELLS)
        # Against the first cell, so that a constant channel is 0 whatever its value.
        sums = _sum_powers(theirs, pieces).sum(0) / len(theirs)
        centre = theirs[0].astype(np.float64) + sums[0]
        spread = 1 / np.sqrt(np.maximum(sums[1] - sums[0] ** 2, 0) + eps)
        learns = ctx.needs_input_grad[0]
        gradient = np.empty_like(mine) if learns else mine[:0]
        loss = _compare(mine, theirs, centre.astype(mine.dtype), spread.astype(mine.dtype), weigh, gradient, pieces)
        if learns:
            maps = torch.from_numpy(gradient).view(student.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
            ctx.save_for_backward(maps)
        return student.new_tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None


@njit(cache=True, parallel=True)
def _sum_powers(rows, pieces):
    """Sums and sums of squares (pieces, 2, C) of what is left of rows (P, C) without the first."""
    sums = np.zeros((pieces, 2, rows.shape[1]))
    for piece in prange(pieces):
        for p in range(len(rows) * piece // pieces, len(rows) * (piece + 1) // pieces):
            for c in range(rows.shape[1]):
                value = np.float64(rows[p, c]) - np.float64(rows[0, c])
                sums[piece, 0, c] += value
                sums[piece, 1, c] += value * value
    return sums


@njit(cache=True, parallel=True)
def _compare(mine, theirs, centre, spread, weights, gradient, pieces):
    """Mean of weighted squares; its gradient is written into `gradient`, unless that is empty."""
    losses = np.zeros(pieces)
    each = 2 / mine.size
    for piece in prange(pieces):
        total = 0.0
        for p in range(len(mine) * piece // pieces, len(mine) * (piece + 1) // pieces):
            weight = weights[p] if len(weights) > 1 else weights[0]
            factor = mine.dtype.type(each * weight)
            square = mine.dtype.type(0)
            for c in range(mine.shape[1]):
                gap = mine[p, c] - (theirs[p, c] - centre[c]) * spread[c]
                square += gap * gap
                if len(gradient):
                    gradient[p, c] = factor * gap
            total += weight * square
        losses[piece] = total
    return losses.sum() / mine.size
