"""Relations of camera views on the CPU: loss and gradient in a few passes instead of many small operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from perception3d.geometry.threads import share_threads_with_torch

# Lower bound of lengths, as in torch's cosine.
_MIN_LENGTH = 1e-6


@dataclass(frozen=True)
class ViewImages:
    """The places of the images of the current frame in the rows of a feature level.

    Attributes:
        first: (B, N) the row of each image's first pixel.
        hw: height and width of the images.
        valid_hw: height and width of the part without padding.
    """

    first: np.ndarray
    hw: tuple[int, int]
    valid_hw: tuple[int, int]


class CpuViewRelation(torch.autograd.Function):
    """`view_relation_loss` of rows (R, C) and (Q, D); only the first get a gradient.

    Args:
        student, teacher: the rows of both networks, float32 or float64.
        overlaps: what `find_overlaps` returns.
        images: of student and teacher.
        gram_weight, temperature: of `view_relation_loss`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        overlaps: tuple[np.ndarray, np.ndarray],
        images: tuple[ViewImages, ViewImages],
        gram_weight: float,
        temperature: float,
    ) -> Tensor:
        """Returns the loss, a scalar; where the student needs a gradient, it is computed here and kept."""
        rows = [x.detach().contiguous().numpy() for x in (student, teacher)]
        share_threads_with_torch()
        sums = [_sum_images(x, part.first, part.hw[1], *part.valid_hw) for x, part in zip(rows, images, strict=True)]
        min_lengths = [_MIN_LENGTH * part.valid_hw[0] * part.valid_hw[1] for part in images]
        relation, sums_gradient = _compare_sums(sums[0], sums[1], min_lengths, temperature)
        needs_gradient = ctx.needs_input_grad[0]
        gradient = np.zeros_like(rows[0]) if needs_gradient else np.empty((0, rows[0].shape[1]), rows[0].dtype)
        own = images[0]
        if needs_gradient and gram_weight:
            _spread(gram_weight * sums_gradient, own.first, own.hw[1], *own.valid_hw, gradient)
        gap = _compare_pairs(rows[0], rows[1], *overlaps, _independent_samples(own.first), gradient)
        if needs_gradient:
            ctx.save_for_backward(torch.from_numpy(gradient))
        return student.new_tensor(gap + gram_weight * relation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradient of the student, and None for each other argument."""
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None, None


def _independent_samples(first: np.ndarray) -> int:
    """How many samples can be processed in parallel: all, unless some share an image."""
    return len(first) if len(np.unique(first)) == first.size else 1


@njit(cache=True)
def _sum_images(rows, first, width, height, columns):
    """Sums (B, N, C) over the first `columns` pixels of the first `height` lines of every image."""
    samples, cameras = first.shape
    sums = np.zeros((samples, cameras, rows.shape[1]))
    for sample in range(samples):
        for n in range(cameras):
            for line in range(height):
                start = first[sample, n] + line * width
                for pixel in range(start, start + columns):
                    for c in range(rows.shape[1]):
                        sums[sample, n, c] += rows[pixel, c]
    return sums


@njit(cache=True)
def _spread(sums_gradient, first, width, height, columns, gradient):
    """Adds the gradient (B, N, C) of sums over images to that of their pixels."""
    samples, cameras = first.shape
    for sample in range(samples):
        for n in range(cameras):
            value = sums_gradient[sample, n].astype(gradient.dtype)
            for line in range(height):
                start = first[sample, n] + line * width
                for pixel in range(start, start + columns):
                    for c in range(value.size):
                        gradient[pixel, c] += value[c]


def _compare_sums(
    student: np.ndarray, teacher: np.ndarray, min_lengths: list[float], temperature: float
) -> tuple[float, np.ndarray]:
    """Mean KL(T || S) of the rows of the Gram matrices of sums (B, N, C) and (B, N, D); its gradient by the first."""
    (unit, lengths), (teacher_unit, _) = (_unit(x, low) for x, low in zip((student, teacher), min_lengths, strict=True))
    log_q, log_p = (_log_softmax(x @ x.transpose(0, 2, 1) / temperature) for x in (unit, teacher_unit))
    q, p, images = np.exp(log_q), np.exp(log_p), student.shape[0] * student.shape[1]
    slope = (q - p) / (temperature * images)
    by_unit = (slope + slope.transpose(0, 2, 1)) @ unit
    # A length below the minimum is a constant.
    along = (unit * by_unit).sum(-1) * (lengths >= min_lengths[0])
    gradient = (by_unit - unit * along[..., None]) / np.maximum(lengths, min_lengths[0])[..., None]
    return float((p * (log_p - log_q)).sum() / images), gradient


def _unit(vectors: np.ndarray, min_length: float) -> tuple[np.ndarray, np.ndarray]:
    """Vectors divided by their length or by `min_length`, whichever is larger, and their lengths."""
    lengths = np.sqrt((vectors * vectors).sum(-1))
    return vectors / np.maximum(lengths, min_length)[..., None], lengths


def _log_softmax(values: np.ndarray) -> np.ndarray:
    shifted = values - values.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@njit(cache=True, fastmath={'reassoc', 'contract'})
def _products(rows, a, b):
    """Squared lengths of two rows, and their product."""
    zero = rows.dtype.type(0)
    first, second, both = zero, zero, zero
    for c in range(rows.shape[1]):
        first += rows[a, c] * rows[a, c]
        second += rows[b, c] * rows[b, c]
        both += rows[a, c] * rows[b, c]
    return np.float64(first), np.float64(second), np.float64(both)


@njit(cache=True, parallel=True)
def _compare_pairs(student, teacher, pairs, counts, parallel, gradient):
    """Mean squared gap of the cosines of the pairs; adds its gradient to `gradient`, unless that is empty.

    `parallel` is the number of samples whose rows differ, which can be processed in parallel.
    """
    total_pairs = max(counts.sum(), 1)
    gaps = np.zeros(parallel)
    for part in prange(parallel):
        total = 0.0
        for sample in range(part, len(counts), parallel):
            for i in range(counts.shape[1]):
                for place in range(counts[sample, i]):
                    a, b, teacher_a, teacher_b = pairs[sample, i, place]
                    first, second, both = _products(student, a, b)
                    teacher_first, teacher_second, teacher_both = _products(teacher, teacher_a, teacher_b)
                    length_a, length_b = max(np.sqrt(first), _MIN_LENGTH), max(np.sqrt(second), _MIN_LENGTH)
                    teacher_length = max(np.sqrt(teacher_first), _MIN_LENGTH)
                    teacher_length *= max(np.sqrt(teacher_second), _MIN_LENGTH)
                    cosine = both / (length_a * length_b)
                    gap = cosine - teacher_both / teacher_length
                    total += gap * gap
                    if len(gradient):
                        _add_pair_gradient(
                            student, (a, b), 2 * gap / total_pairs, cosine, (length_a, length_b), gradient
                        )
        gaps[part] = total
    return gaps.sum() / total_pairs


@njit(cache=True)
def _add_pair_gradient(rows, pair, slope, cosine, lengths, gradient):
    """Adds `slope` times the gradient of the cosine of the two rows `pair`, whose lengths are given."""
    number = gradient.dtype.type
    (a, b), (length_a, length_b) = pair, lengths
    across = number(slope / (length_a * length_b))
    # A length below the minimum is a constant.
    along_a = number(slope * cosine / length_a**2 if length_a > _MIN_LENGTH else 0.0)
    along_b = number(slope * cosine / length_b**2 if length_b > _MIN_LENGTH else 0.0)
    for c in range(rows.shape[1]):
        row_a, row_b = rows[a, c], rows[b, c]
        gradient[a, c] += across * row_b - along_a * row_a
        gradient[b, c] += across * row_a - along_b * row_b
