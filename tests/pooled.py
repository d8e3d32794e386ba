"""Kernels that pool, group and interpolate with their gradients, joined for autograd as mmcv joins them."""

from __future__ import annotations

import torch
from torch import Tensor

from perception3d.ops.neighbors import (
    gather_columns,
    interpolate_columns,
    interpolate_columns_backward,
    scatter_add_columns,
)
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


class _Group(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.num_points = features.shape[2]
        return gather_columns(features, indices)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return scatter_add_columns(grad, *ctx.saved_tensors, ctx.num_points).to(grad.dtype), None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(indices, weights)
        ctx.num_points = features.shape[2]
        return interpolate_columns(features, indices, weights)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return interpolate_columns_backward(grad, *ctx.saved_tensors, ctx.num_points).to(grad.dtype), None, None


def group_points(features: Tensor, indices: Tensor) -> Tensor:
    """Features (B, C, ...) of features (B, C, N) at indices (B, ...) int32; differentiable in the features."""
    return _Group.apply(features, indices.flatten(1)).view(*features.shape[:2], *indices.shape[1:])


def three_interpolate(features: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums (B, C, n) of three of features (B, C, m) each, by indices and weights (B, n, 3)."""
    return _Interpolate.apply(features, indices, weights)
