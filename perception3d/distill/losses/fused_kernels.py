"""Feature imitation of channels-last maps on the CPU: loss and gradient in two passes over the maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from perception3d.geometry.threads import share_threads_with_torch

# Cells of one chunk of the parallel loops.
_CELLS = 1024


def can_imitate(student: Tensor, teacher: Tensor, weights: Tensor | None) -> bool:
    """Whether `CpuImitation` takes these maps: on the CPU, of one shape and dtype, in channels-last memory."""
    maps = (student, teacher)
    equal = student.shape == teacher.shape and student.dtype == teacher.dtype in (torch.float32, torch.float64)
    return (
        equal
        and all(x.device.type == 'cpu' and x.is_contiguous(memory_format=torch.channels_last) for x in maps)
        and (weights is None or weights.shape == (len(student), 1, *student.shape[2:]))
    )


class CpuImitation(torch.autograd.Function):
    """Mean of W (S - n(T))^2, n as `standardise` with `eps`; only the student gets a gradient.

    Args:
        student, teacher: S and T, maps (B, C, X, Y) that `can_imitate`.
        weights: W (B, 1, X, Y), or None for 1.
        eps: added to the variances.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weights: Tensor | None, eps: float) -> Tensor:
        """Returns the loss, a scalar; where the student needs a gradient, it is computed here and kept."""
        student_rows, teacher_rows = (x.detach().permute(0, 2, 3, 1).flatten(0, 2).numpy() for x in (student, teacher))
        if weights is None:
            pillar_weights = np.ones(1, student_rows.dtype)
        else:
            pillar_weights = weights.detach().to(student.dtype).flatten().numpy()
        share_threads_with_torch()
        chunks = -(-len(student_rows) // _CELLS)
        # Relative to the first cell, so that a constant channel becomes 0 whatever its value.
        sums = _sum_powers(teacher_rows, chunks).sum(0) / len(teacher_rows)
        mean = teacher_rows[0].astype(np.float64) + sums[0]
        scale = 1 / np.sqrt(np.maximum(sums[1] - sums[0] ** 2, 0) + eps)
        normaliser = np.stack([mean, scale]).astype(student_rows.dtype)
        needs_gradient = ctx.needs_input_grad[0]
        gradient = np.empty_like(student_rows) if needs_gradient else student_rows[:0]
        loss = _compare(student_rows, teacher_rows, normaliser, pillar_weights, gradient, chunks)
        if needs_gradient:
            maps = torch.from_numpy(gradient).view(student.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
            ctx.save_for_backward(maps)
        return student.new_tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradient of the student, and None for each other argument."""
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None


@njit(cache=True, parallel=True)
def _sum_powers(rows, chunks):
    """Sums and sums of squares (chunks, 2, C) of rows (P, C) minus the first row."""
    sums = np.zeros((chunks, 2, rows.shape[1]))
    for chunk in prange(chunks):
        for p in range(len(rows) * chunk // chunks, len(rows) * (chunk + 1) // chunks):
            for c in range(rows.shape[1]):
                value = np.float64(rows[p, c]) - np.float64(rows[0, c])
                sums[chunk, 0, c] += value
                sums[chunk, 1, c] += value * value
    return sums


@njit(cache=True, parallel=True)
def _compare(student, teacher, normaliser, weights, gradient, chunks):
    """Mean of weighted squares; its gradient is written into `gradient`, unless that is empty.

    `normaliser` (2, C) has the means and the reciprocal standard deviations of the teacher's channels.
    """
    losses = np.zeros(chunks)
    each = 2 / student.size
    for chunk in prange(chunks):
        total = 0.0
        for p in range(len(student) * chunk // chunks, len(student) * (chunk + 1) // chunks):
            weight = weights[p] if len(weights) > 1 else weights[0]
            factor = student.dtype.type(each * weight)
            square = student.dtype.type(0)
            for c in range(student.shape[1]):
                gap = student[p, c] - (teacher[p, c] - normaliser[0, c]) * normaliser[1, c]
                square += gap * gap
                if len(gradient):
                    gradient[p, c] = factor * gap
            total += weight * square
        losses[chunk] = total
    return losses.sum() / student.size
