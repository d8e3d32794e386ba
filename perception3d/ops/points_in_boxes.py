"""Which points lie in which boxes, and pooling of points by box (PointRCNN 1812.04244, Part-A2 1907.03670).

Boxes are those of `geometry/boxes.py`: bottom centre, counter-clockwise yaw. A point is inside if it is strictly
between the sides, and between bottom and top or on them: mmcv's rule and rounding (float32). CUDA tensors go to mmcv.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit, prange
from torch import Tensor

from perception3d.checks import InputError, unknown_name
from perception3d.geometry.threads import share_threads_with_torch
from perception3d.ops.inside_boxes import box_at, inside, local

_BLOCK = 256
_ROI_REDUCTIONS = ('max', 'avg')


def _columns(boxes: Tensor) -> npt.NDArray[Any]:
    """Columns (..., 9, T) float32, as `inside_boxes` takes them, of boxes (..., T, >=7) by mmcv's rule."""
    array = boxes.detach().float().numpy()
    half = array[..., 3:6] / np.float32(2)
    center = array[..., :3].copy()
    center[..., 2] += half[..., 2]
    # The sides do not belong to the box: the largest distances are the numbers below the half sizes.
    sides = half[..., :2]
    largest = np.where(sides > 0, np.nextafter(sides, np.float32(0)), np.float32(-1))
    yaw = array[..., 6:7].astype(np.float64)
    turned = np.cos(yaw).astype(np.float32), np.sin(yaw).astype(np.float32)
    rows = np.concatenate([center, largest, -half[..., 2:], half[..., 2:], *turned], -1)
    return np.ascontiguousarray(np.swapaxes(rows, -1, -2))


def _coordinates(points: Tensor) -> npt.NDArray[Any]:
    """Points (..., N, >=3) as contiguous columns (..., 3, N) float32."""
    return points.detach()[..., :3].float().transpose(-1, -2).contiguous().numpy()


# One thread: transforms mark points in the workers of a data loader, which must not start threads after a fork.
@njit(cache=True)
def _mark_all(points, boxes, out):
    for n in range(points.shape[1]):
        x, y, z = points[0, n], points[1, n], points[2, n]
        for k in range(boxes.shape[1]):
            out[n, k] = np.int32(1) if inside(box_at(boxes, k), x, y, z) else np.int32(0)


@njit(cache=True)
def _mark_first(points, boxes, out):
    for n in range(points.shape[1]):
        x, y, z = points[0, n], points[1, n], points[2, n]
        first = np.int32(boxes.shape[1])
        # All boxes, without a branch: the compiler tests several at once.
        for k in range(boxes.shape[1]):
            first = min(first, np.int32(k) if inside(box_at(boxes, k), x, y, z) else np.int32(boxes.shape[1]))
        out[n] = first if first < boxes.shape[1] else -1


@njit(cache=True)
def _points_of_box(points: npt.NDArray[Any], box: tuple, out: npt.NDArray[Any]) -> int:
    """Writes the first indices of points (3, N) inside a box into `out`, and returns how many there are of them."""
    flags, found = np.empty(_BLOCK, np.bool_), 0
    for start in range(0, points.shape[1], _BLOCK):
        xs, ys, zs = (
            points[0, start : start + _BLOCK],
            points[1, start : start + _BLOCK],
            points[2, start : start + _BLOCK],
        )
        hits = np.int32(0)
        for t in range(xs.shape[0]):
            flags[t] = inside(box, xs[t], ys[t], zs[t])
            hits += np.int32(flags[t])
        if hits:
            for t in range(xs.shape[0]):
                if flags[t]:
                    if found == out.shape[0]:
                        return found
                    out[found] = start + t
                    found += 1
    return found


@njit(cache=True, parallel=True)
def _sample_boxes(points, boxes, indices, empty):
    for k in prange(boxes.shape[1]):
        found = _points_of_box(points, box_at(boxes, k), indices[k])
        empty[k] = found == 0
        for s in range(found, indices.shape[1]):
            indices[k, s] = indices[k, s % found] if found else 0


@njit(cache=True, parallel=True)
def _gather_samples(points, features, indices, empty, out):
    for k in prange(out.shape[0]):
        if not empty[k]:
            for s in range(out.shape[1]):
                n = indices[k, s]
                for j in range(3):
                    out[k, s, j] = points[n, j]
                for c in range(features.shape[1]):
                    out[k, s, 3 + c] = features[n, c]


@njit(cache=True, parallel=True)
def _fill_cells(points, boxes, bottoms_and_sizes, cells):
    """Fills zeros `cells` (T, X, Y, Z, P + 1): the number of points of each cell of each box, then their indices."""
    shape, two = np.array([cells.shape[1], cells.shape[2], cells.shape[3]]), np.float32(2)
    for k in prange(boxes.shape[1]):
        box, bottom, size = box_at(boxes, k), bottoms_and_sizes[k, 0], bottoms_and_sizes[k, 1:]
        found = np.empty(points.shape[1], np.int32)
        place = np.empty(3, np.int64)
        for s in range(_points_of_box(points, box, found)):
            n = found[s]
            u, v = local(box, points[0, n], points[1, n])
            place[0] = int((u + size[0] / two) / (size[0] / np.float32(shape[0])))
            place[1] = int((v + size[1] / two) / (size[1] / np.float32(shape[1])))
            place[2] = int((points[2, n] - bottom) / (size[2] / np.float32(shape[2])))
            for axis in range(3):
                place[axis] = min(max(place[axis], 0), shape[axis] - 1)
            cell = cells[k, place[0], place[1], place[2]]
            if cell[0] < cell.shape[0] - 1:
                cell[0] += 1
                cell[cell[0]] = n


@njit(cache=True, parallel=True)
def _pool_cells(features, cells, average, pooled, winners):
    """Pools features (N, C) into zeros `pooled` (M, C) by cells (M, P + 1); `winners` (M, C) of a maximum, or -1."""
    for m in prange(cells.shape[0]):
        for c in range(features.shape[1]):
            winners[m, c] = -1
        for s in range(1, cells[m, 0] + 1):
            n = cells[m, s]
            for c in range(features.shape[1]):
                if average:
                    pooled[m, c] += features[n, c]
                elif features[n, c] > -np.inf and (winners[m, c] < 0 or features[n, c] > pooled[m, c]):
                    pooled[m, c], winners[m, c] = features[n, c], n
        if average and cells[m, 0] > 0:
            for c in range(features.shape[1]):
                pooled[m, c] /= features.dtype.type(cells[m, 0])


@njit(cache=True)
def _pool_cells_backward(grad, cells, winners, average, sums):
    for m in range(cells.shape[0]):
        share = grad.dtype.type(1.0) / grad.dtype.type(max(cells[m, 0], 1))
        for c in range(grad.shape[1]):
            if not average and winners[m, c] >= 0:
                sums[winners[m, c], c] += grad[m, c]
        if average:
            for s in range(1, cells[m, 0] + 1):
                for c in range(grad.shape[1]):
                    sums[cells[m, s], c] += grad[m, c] * share


def _require(points: Tensor, boxes: Tensor) -> None:
    shapes = tuple(points.shape), tuple(boxes.shape)
    if (
        len(shapes[0]) != 3
        or len(shapes[1]) != 3
        or shapes[0][0] != shapes[1][0]
        or shapes[0][2] < 3
        or shapes[1][2] < 7
    ):
        raise InputError(f'expected points (B, N, >=3) and boxes (B, T, >=7), got {shapes[0]} and {shapes[1]}')


def points_in_boxes_part(points: Tensor, boxes: Tensor) -> Tensor:
    """Index (B, N) int32 of the first of boxes (B, T, >=7) that each point (B, N, >=3) is in, -1 if in none."""
    _require(points, boxes)
    if points.is_cuda:
        from mmcv.ops import points_in_boxes_part as cuda_part

        return cuda_part(points[..., :3].contiguous(), boxes[..., :7].contiguous())
    out = np.empty(points.shape[:2], np.int32)
    for cloud, of_cloud, target in zip(_coordinates(points), _columns(boxes), out, strict=True):
        _mark_first(cloud, of_cloud, target)
    return torch.from_numpy(out)


def points_in_boxes_all(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether, 1 or 0, each point (B, N, >=3) is in each of boxes (B, T, >=7): (B, N, T) int32."""
    _require(points, boxes)
    if points.is_cuda:
        from mmcv.ops import points_in_boxes_all as cuda_all

        return cuda_all(points[..., :3].contiguous(), boxes[..., :7].contiguous())
    out = np.empty((*points.shape[:2], boxes.shape[1]), np.int32)
    for cloud, of_cloud, target in zip(_coordinates(points), _columns(boxes), out, strict=True):
        _mark_all(cloud, of_cloud, target)
    return torch.from_numpy(out)


def pool_points_in_boxes(points: Tensor, features: Tensor, boxes: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """The first points inside each box, and their features (RoI point pooling of PointRCNN); without gradient.

    Args:
        points: (B, N, 3) in metres.
        features: (B, N, C).
        boxes: (B, T, >=7).
        num_samples: points of a box; what is found, in order, is repeated in turn up to that number.

    Returns:
        Tuple of (B, T, num_samples, 3 + C) coordinates and features, zeros for a box without points, and (B, T) int32
        that is 1 for such a box.
    """
    _require(points, boxes)
    if num_samples < 1 or features.shape[:2] != points.shape[:2]:
        raise InputError(f'expected features (B, N, C) of {tuple(points.shape)} points, got {tuple(features.shape)}')
    if points.is_cuda:
        from mmcv.ops import RoIPointPool3d

        return RoIPointPool3d(num_samples)(points.contiguous(), features.contiguous(), boxes[..., :7].contiguous())
    exact = features.detach().float().contiguous()
    shape = *boxes.shape[:2], num_samples
    pooled = torch.zeros(*shape, 3 + features.shape[2])
    indices, empty = np.empty(shape, np.int32), np.empty(shape[:2], np.int32)
    xyz = points.detach()[..., :3].float().contiguous().numpy()
    coordinates, columns = _coordinates(points), _columns(boxes)
    share_threads_with_torch()
    for b in range(len(xyz)):
        _sample_boxes(coordinates[b], columns[b], indices[b], empty[b])
        _gather_samples(xyz[b], exact[b].numpy(), indices[b], empty[b], pooled[b].numpy())
    return pooled.to(features.dtype), torch.from_numpy(empty)


def cells_of_boxes(points: Tensor, boxes: Tensor, grid: tuple[int, int, int], max_points: int) -> Tensor:
    """Cells (T, X, Y, Z, max_points) int32, on the CPU, of a grid laid into each of boxes (T, >=7).

    Each cell holds its number of points (N, 3), at most max_points - 1, then their indices in order, then zeros.
    """
    _require(points[None], boxes[None])
    cells = torch.zeros(len(boxes), *grid, max_points, dtype=torch.int32)
    bottoms_and_sizes = boxes.detach()[:, 2:6].float().contiguous().numpy()
    share_threads_with_torch()
    _fill_cells(_coordinates(points), _columns(boxes), bottoms_and_sizes, cells.numpy())
    return cells


def pool_cells(features: Tensor, cells: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
    """Pools features (N, C) by `cells_of_boxes`: (T, X, Y, Z, C), zeros in empty cells, and winners of a maximum.

    `reduction` is 'max' or 'avg'. The winners, int32, are the first points that have the maximum, -1 in empty cells.
    """
    if reduction not in _ROI_REDUCTIONS:
        raise unknown_name('reduction', reduction, _ROI_REDUCTIONS)
    exact = features.detach().contiguous()
    exact = exact if exact.dtype == torch.float64 else exact.float()
    pooled = exact.new_zeros(*cells.shape[:-1], features.shape[1])
    winners = torch.empty(pooled.shape, dtype=torch.int32)
    share_threads_with_torch()
    flat = (
        cells.flatten(0, -2).numpy(),
        reduction == 'avg',
        pooled.flatten(0, -2).numpy(),
        winners.flatten(0, -2).numpy(),
    )
    _pool_cells(exact.numpy(), *flat)
    return pooled.to(features.dtype), winners


def pool_cells_backward(grad: Tensor, cells: Tensor, winners: Tensor, reduction: str, num_points: int) -> Tensor:
    """Gradient (num_points, C) of the features of `pool_cells` for `grad` (T, X, Y, Z, C)."""
    if reduction not in _ROI_REDUCTIONS:
        raise unknown_name('reduction', reduction, _ROI_REDUCTIONS)
    exact = grad.detach().contiguous()
    exact = exact if exact.dtype == torch.float64 else exact.float()
    sums = exact.new_zeros(num_points, grad.shape[-1])
    flat, flat_cells, flat_winners = (t.flatten(0, -2).numpy() for t in (exact, cells, winners))
    _pool_cells_backward(flat, flat_cells, flat_winners, reduction == 'avg', sums.numpy())
    return sums.to(grad.dtype)
