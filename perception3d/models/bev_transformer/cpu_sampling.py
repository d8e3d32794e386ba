"""The sum of bilinear samples of deformable attention on a CPU, in one pass without intermediate tensors.

mmcv's PyTorch path samples every point of every head into a tensor first and multiplies then; here each sum is built
where it is kept. Gradients are added in a fixed order: one thread owns all maps of one row of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor


class SampleMaps(torch.autograd.Function):
    """`sample_maps` for float32 tensors on the CPU; sizes (levels, 2) int64 are the (h, w) of the maps."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, sizes: np.ndarray, locations: Tensor, weights: Tensor) -> Tensor:
        """Returns (M, Q, heads * D)."""
        value, locations, weights = value.contiguous(), locations.contiguous(), weights.contiguous()
        ctx.save_for_backward(value, locations, weights)
        ctx.sizes = sizes
        rows, queries, heads = locations.shape[:3]
        out = torch.zeros(rows, queries, heads, value.shape[3])
        sampled = _Sampled(*(part.detach().numpy() for part in (value, locations, weights)))
        _run(_sample, sizes, sampled, out.numpy())
        return out.flatten(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        """Returns the gradients of value, locations and weights."""
        value, locations, weights = ctx.saved_tensors
        grads = [torch.zeros_like(part) for part in (value, locations, weights)]
        grad = grad.reshape(*weights.shape[:3], value.shape[3]).contiguous()
        sampled, gradients = (
            _Sampled(*(part.numpy() for part in parts)) for parts in ((value, locations, weights), grads)
        )
        _run(_spread, ctx.sizes, sampled, grad.numpy(), gradients)
        return grads[0], None, grads[1], grads[2]


class _Sampled(NamedTuple):
    """The maps, places and weights of a sum of samples, or the gradients of them; axis 0 is the row of the batch."""

    value: np.ndarray
    locations: np.ndarray
    weights: np.ndarray

    def rows(self, first: int, last: int) -> _Sampled:
        """Returns the rows `first` to `last` of the batch."""
        return _Sampled(*(array[first:last] for array in self))


def _run(kernel: Callable, sizes: np.ndarray, sampled: _Sampled, sums: np.ndarray, *gradients: _Sampled) -> None:
    """Runs `kernel` on all rows of the batch, shared out among as many threads as torch has.

    Threads of Python, since numba's own OpenMP threads would change how many torch uses.
    """
    threads = min(torch.get_num_threads(), len(sums))
    if threads <= 1:
        kernel(sizes, sampled, sums, *gradients)
        return
    edges = [len(sums) * i // threads for i in range(threads + 1)]
    jobs = [
        _pool(threads).submit(kernel, sizes, sampled.rows(a, b), sums[a:b], *(part.rows(a, b) for part in gradients))
        for a, b in zip(edges, edges[1:])
    ]
    for job in jobs:
        job.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, 'sample_maps')


# Sums of channels may be added in any order; NaN and infinities stay what they are.
_KERNEL: dict[str, Any] = dict(cache=True, nogil=True, fastmath={'reassoc', 'contract', 'nsz'})


@njit(cache=True)
def _corner(along, size):
    """The pixel before a place `along` a map of `size` pixels, and how far beyond it the place lies; -2 if outside."""
    place = along * size - 0.5
    if not (place > -1.0 and place < size):
        return -2, np.float32(0)
    first = math.floor(place)
    return int(first), np.float32(place - first)


@njit(**_KERNEL)
def _sample(sizes, sampled, out):
    value, locations, weights = sampled.value, sampled.locations, sampled.weights
    rows, queries, heads, levels, points = weights.shape
    channels = value.shape[3]
    for m in range(rows):
        for q in range(queries):
            for h in range(heads):
                total = out[m, q, h]
                start = 0
                for level in range(levels):
                    height, width = sizes[level, 0], sizes[level, 1]
                    for p in range(points):
                        x, right = _corner(locations[m, q, h, level, p, 0], width)
                        y, down = _corner(locations[m, q, h, level, p, 1], height)
                        if x == -2 or y == -2:
                            continue
                        for row in range(max(y, 0), min(y + 2, height)):
                            share = weights[m, q, h, level, p] * (down if row > y else 1 - down)
                            for column in range(max(x, 0), min(x + 2, width)):
                                part = share * (right if column > x else 1 - right)
                                pixel = value[m, start + row * width + column, h]
                                for c in range(channels):
                                    total[c] += part * pixel[c]
                    start += height * width


@njit(**_KERNEL)
def _spread(sizes, sampled, grad, gradients):
    value, locations, weights = sampled.value, sampled.locations, sampled.weights
    grad_value, grad_locations, grad_weights = gradients.value, gradients.locations, gradients.weights
    rows, queries, heads, levels, points = weights.shape
    channels = value.shape[3]
    for m in range(rows):
        for q in range(queries):
            for h in range(heads):
                above = grad[m, q, h]
                start = 0
                for level in range(levels):
                    height, width = sizes[level, 0], sizes[level, 1]
                    for p in range(points):
                        x, right = _corner(locations[m, q, h, level, p, 0], width)
                        y, down = _corner(locations[m, q, h, level, p, 1], height)
                        if x == -2 or y == -2:
                            continue
                        weight = weights[m, q, h, level, p]
                        along_x, along_y, whole = np.float32(0), np.float32(0), np.float32(0)
                        for row in range(max(y, 0), min(y + 2, height)):
                            by_row = down if row > y else 1 - down
                            for column in range(max(x, 0), min(x + 2, width)):
                                by_column = right if column > x else 1 - right
                                part = weight * by_row * by_column
                                index = start + row * width + column
                                pixel, grad_pixel = value[m, index, h], grad_value[m, index, h]
                                dot = np.float32(0)
                                for c in range(channels):
                                    dot += above[c] * pixel[c]
                                for c in range(channels):
                                    grad_pixel[c] += part * above[c]
                                whole += by_row * by_column * dot
                                along_x += (by_row if column > x else -by_row) * dot
                                along_y += (by_column if row > y else -by_column) * dot
                        grad_weights[m, q, h, level, p] = whole
                        grad_locations[m, q, h, level, p, 0] = along_x * weight * width
                        grad_locations[m, q, h, level, p, 1] = along_y * weight * height
                    start += height * width
