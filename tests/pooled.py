"""Pooling kernels with their gradients, joined for autograd as mmcv joins them."""

from __future__ import annotations

import torch
from torch import Tensor

from perception3d.ops.points_in_boxes import cells_of_boxes, pool_cells, pool_cells_backward
from perception3d.ops.voxels import reduce_by_row, reduce_by_row_backward, unique_voxels


class _PoolCells(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, cells: Tensor, reduction: str) -> Tensor:
        pooled, winners = pool_cells(features, cells, reduction)
        ctx.save_for_backward(cells, winners)
        ctx.reduction, ctx.num_points = reduction, len(features)
        return pooled

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return pool_cells_backward(grad, *ctx.saved_tensors, ctx.reduction, ctx.num_points), None, None


def pool_box_cells(
    points: Tensor, features: Tensor, boxes: Tensor, grid: tuple[int, int, int], max_points: int, reduction: str
) -> Tensor:
    """Features (N, C) of points (N, 3) pooled by a grid in each of boxes (T, >=7) (RoI-aware pooling): (T, X, Y, Z, C).

    A cell keeps its first max_points - 1 points; `reduction` is 'max' or 'avg'. Differentiable in the features.
    """
    return _PoolCells.apply(features, cells_of_boxes(points, boxes, grid, max_points), reduction)


class _PoolByVoxel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, row: Tensor, count: Tensor, reduction: str) -> Tensor:
        ctx.save_for_backward(features, row, count)
        ctx.reduction = reduction
        return reduce_by_row(features, row, count, reduction)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return reduce_by_row_backward(grad, *ctx.saved_tensors, ctx.reduction), None, None, None


def pool_by_voxel(features: Tensor, coords: Tensor, reduction: str = 'mean') -> tuple[Tensor, Tensor]:
    """Features (N, C) of points that share a cell, pooled ("dynamic scatter"): (V, C), and the cells (V, D) in order.

    `coords` (N, D) are integers; points with a negative one are left out. `reduction` is 'sum', 'mean' or 'max'.
    Differentiable in the features.
    """
    voxels, row, count = unique_voxels(coords)
    return _PoolByVoxel.apply(features, row, count, reduction), voxels
