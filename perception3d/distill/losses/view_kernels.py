"""The relations of views on the CPU: loss and gradient in a few passes instead of many small operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from perception3d.geometry.threads import share_threads_with_torch

# Lengths below count as this long, as in torch's cosine.
_SHORTEST = 1e-6


class HostViewRelation(torch.autograd.Function):
    """`ViewRelationKD` of rows (R, C) and (Q, D), with the gradient of the first alone.

    Args:
        mine, theirs: the rows of student and teacher, float32 or float64.
        overlaps: what `find_overlaps` returns.
        images: for both (first, hw, valid_hw): (B, N) the row of each image's first pixel, its size and valid part.
        gram_weight, temperature: of `ViewRelationKD`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        mine: Tensor,
        theirs: Tensor,
        overlaps: tuple[np.ndarray, np.ndarray],
        images: tuple[tuple[np.ndarray, tuple[int, int], tuple[int, int]], ...],
        gram_weight: float,
        temperature: float,
    ) -> Tensor:
        rows = [x.detach().contiguous().numpy() for x in (mine, theirs)]
        share_threads_with_torch()
        sums = [_sum_images(x, first, hw[1], *valid) for x, (first, hw, valid) in zip(rows, images, strict=True)]
        least = [_SHORTEST * valid[0] * valid[1] for *_, valid in images]
        relation, pull = _compare_sums(*sums, least, temperature)
        learns = ctx.needs_input_grad[0]
        gradient = np.zeros_like(rows[0]) if learns else np.empty((0, rows[0].shape[1]), rows[0].dtype)
        first, (_, width), valid = images[0]
        if learns and gram_weight:
            _spread(gram_weight * pull, first, width, *valid, gradient)
        gap = _compare_pairs(*rows, *overlaps, _apart(first), gradient)
        if learns:
            ctx.save_for_backward(torch.from_numpy(gradient))
        return mine.new_tensor(gap + gram_weight * relation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None, None


def _apart(first: np.ndarray) -> int:
    """How many samples may be worked on at once: all, unless some share an image."""
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
def _spread(pull, first, width, height, columns, gradient):
    """Adds the gradient (B, N, C) of sums over images to that of their pixels."""
    samples, cameras = first.shape
    for sample in range(samples):
        for n in range(cameras):
            value = pull[sample, n].astype(gradient.dtype)
            for line in range(height):
                start = first[sample, n] + line * width
                for pixel in range(start, start + columns):
                    for c in range(value.size):
                        gradient[pixel, c] += value[c]


def _compare_sums(
    mine: np.ndarray, theirs: np.ndarray, least: Sequence[float], temperature: float
) -> tuple[float, np.ndarray]:
    """Mean KL(T || S) of the rows of the Gram matrices of sums (B, N, C) and (B, N, D); its gradient by the first."""
    (ours, lengths), (others, _) = (_unit(x, shortest) for x, shortest in zip((mine, theirs), least, strict=True))
    log_q, log_p = (_log_softmax(x @ x.transpose(0, 2, 1) / temperature) for x in (ours, others))
    q, p, images = np.exp(log_q), np.exp(log_p), mine.shape[0] * mine.shape[1]
    slope = (q - p) / (temperature * images)
    by_unit = (slope + slope.transpose(0, 2, 1)) @ ours
    # A length below the least is a constant.
    along = (ours * by_unit).sum(-1) * (lengths >= least[0])
    pull = (by_unit - ours * along[..., None]) / np.maximum(lengths, least[0])[..., None]
    return float((p * (log_p - log_q)).sum() / images), pull


def _unit(vectors: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1 and the lengths that they had; what is shorter than `least` stays shorter."""
    lengths = np.sqrt((vectors * vectors).sum(-1))
    return vectors / np.maximum(lengths, least)[..., None], lengths


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
def _compare_pairs(mine, theirs, pairs, counts, parts, gradient):
    """Mean squared gap of the cosines of the pairs; adds its gradient to `gradient`, unless that is empty.

    `parts` is the number of samples whose rows differ, which may be worked on side by side.
    """
    found = max(counts.sum(), 1)
    gaps = np.zeros(parts)
    for part in prange(parts):
        total = 0.0
        for sample in range(part, len(counts), parts):
            for i in range(counts.shape[1]):
                for place in range(counts[sample, i]):
                    a, b, other_a, other_b = pairs[sample, i, place]
                    first, second, both = _products(mine, a, b)
                    other_first, other_second, other_both = _products(theirs, other_a, other_b)
                    size_a, size_b = max(np.sqrt(first), _SHORTEST), max(np.sqrt(second), _SHORTEST)
                    other = max(np.sqrt(other_first), _SHORTEST) * max(np.sqrt(other_second), _SHORTEST)
                    cosine = both / (size_a * size_b)
                    gap = cosine - other_both / other
                    total += gap * gap
                    if len(gradient):
                        slope = 2 * gap / found
                        _pull_pair(mine, a, b, slope, cosine, size_a, size_b, gradient)
        gaps[part] = total
    return gaps.sum() / found


@njit(cache=True)
def _pull_pair(rows, a, b, slope, cosine, size_a, size_b, gradient):
    """Adds `slope` times the gradient of the cosine of two rows."""
    number = gradient.dtype.type
    across = number(slope / (size_a * size_b))
    # A length below the shortest is a constant.
    along_a = number(slope * cosine / size_a**2 if size_a > _SHORTEST else 0.0)
    along_b = number(slope * cosine / size_b**2 if size_b > _SHORTEST else 0.0)
    for c in range(rows.shape[1]):
        one, other = rows[a, c], rows[b, c]
        gradient[a, c] += across * other - along_a * one
        gradient[b, c] += across * one - along_b * other
