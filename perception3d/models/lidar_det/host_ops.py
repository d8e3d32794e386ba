"""Lets mmcv's LiDAR ops work on CPU tensors, so that mmdet3d's modules run unchanged with or without a GPU.

The compiled module that mmcv's Python functions call has no CPU kernels for most of these ops, and slow ones for
others. `install` puts a thin object in its place that sends a call with CPU tensors to `geometry/` and all others on:
mmcv's modules, autograd functions and argument checks stay what they are. What differs from mmcv's own CPU kernels:

- `nms_rotated` heeds `labels` and suppresses above the threshold, as on CUDA (mmcv's CPU kernel ignores labels and
  suppresses at the threshold too). Boxes or scores that are not finite are dropped.
- `voxelization` takes `deterministic=False` too; the answer is the deterministic one.
- `points_in_boxes_cpu`, `box_iou_rotated` and `voxelization` give what they gave, and are faster.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perception3d.geometry import neighbors, points_in_boxes, voxels
from perception3d.geometry.iou import bev_iou, bev_overlap
from perception3d.geometry.nms import nms_rotated
from perception3d.geometry.point_sampling import furthest_point_sample, furthest_point_sample_with_distances

_OPS = (
    'ball_query', 'box_iou_rotated', 'furthest_point_sample', 'gather_points', 'group_points', 'iou3d', 'knn', 'nms',
    'points_in_boxes', 'roiaware_pool3d', 'roipoint_pool3d', 'scatter_points', 'three_interpolate', 'three_nn',
)  # fmt: skip
# mmdet3d has a voxel layer of its own beside mmcv's.
_VOXEL_LAYERS = ('mmcv.ops.voxelize', 'mmdet3d.models.data_preprocessors.voxelize')
_ROI_REDUCTIONS = ('max', 'avg')


def _furthest_point_sampling_forward(points: Tensor, temp: Tensor, output: Tensor, b: int, n: int, m: int) -> None:
    output.copy_(furthest_point_sample(points, m))


def _furthest_point_sampling_with_dist_forward(
    points_dist: Tensor, temp: Tensor, output: Tensor, b: int, n: int, m: int
) -> None:
    output.copy_(furthest_point_sample_with_distances(points_dist, m))


def _ball_query_forward(
    centers: Tensor, points: Tensor, output: Tensor, b: int, n: int, m: int, min_radius, max_radius, nsample: int
) -> None:
    output.copy_(neighbors.ball_query(points, centers, min_radius, max_radius, nsample))


def _knn_forward(points: Tensor, centers: Tensor, idx: Tensor, dist2: Tensor, b: int, n: int, m: int, nsample: int):
    indices, squared = neighbors.nearest_points(points, centers, nsample)
    idx.copy_(indices)
    dist2.copy_(squared)


def _three_nn_forward(targets: Tensor, sources: Tensor, dist2: Tensor, idx: Tensor, b: int, n: int, m: int) -> None:
    indices, squared = neighbors.nearest_points(sources, targets, 3, far=np.inf)
    idx.copy_(indices)
    dist2.copy_(squared)


def _gather_points_forward(features: Tensor, indices: Tensor, output: Tensor, **sizes: int) -> None:
    neighbors.gather_columns(features, indices.flatten(1), output.flatten(2))


def _gather_points_backward(grad: Tensor, indices: Tensor, grad_features: Tensor, **sizes: int) -> None:
    grad_features.copy_(neighbors.scatter_add_columns(grad.flatten(2), indices.flatten(1), grad_features.shape[2]))


def _three_interpolate_forward(features: Tensor, indices: Tensor, weight: Tensor, output: Tensor, **sizes: int) -> None:
    output.copy_(neighbors.interpolate_columns(features, indices, weight))


def _three_interpolate_backward(grad: Tensor, indices: Tensor, weight: Tensor, grad_features: Tensor, **sizes: int):
    num_points = grad_features.shape[2]
    grad_features.copy_(neighbors.interpolate_columns_backward(grad, indices, weight, num_points))


def _points_in_boxes_part_forward(boxes: Tensor, points: Tensor, output: Tensor) -> None:
    output.copy_(points_in_boxes.points_in_boxes_part(points, boxes))


def _points_in_boxes_all_forward(boxes: Tensor, points: Tensor, output: Tensor) -> None:
    output.copy_(points_in_boxes.points_in_boxes_all(points, boxes))


def _points_in_boxes_cpu_forward(boxes: Tensor, points: Tensor, output: Tensor) -> None:
    output.copy_(points_in_boxes.points_in_boxes_all(points[None], boxes[None])[0].T)


def _roipoint_pool3d_forward(xyz: Tensor, boxes3d: Tensor, features: Tensor, pooled: Tensor, empty: Tensor) -> None:
    values, flags = points_in_boxes.pool_points_in_boxes(xyz, features, boxes3d, pooled.shape[2])
    pooled.copy_(values)
    empty.copy_(flags)


def _roiaware_pool3d_forward(
    rois: Tensor, pts: Tensor, features: Tensor, argmax: Tensor, cells: Tensor, pooled: Tensor, pool_method: int
) -> None:
    cells.copy_(points_in_boxes.cells_of_boxes(pts, rois, tuple(cells.shape[1:4]), cells.shape[4]))
    values, winners = points_in_boxes.pool_cells(features, cells, _ROI_REDUCTIONS[pool_method])
    pooled.copy_(values)
    argmax.copy_(winners)


def _roiaware_pool3d_backward(cells: Tensor, argmax: Tensor, grad: Tensor, grad_in: Tensor, pool_method: int) -> None:
    reduction = _ROI_REDUCTIONS[pool_method]
    grad_in.copy_(points_in_boxes.pool_cells_backward(grad, cells, argmax, reduction, len(grad_in)))


def _dynamic_point_to_voxel_forward(feats: Tensor, coors: Tensor, reduce_type: str) -> list[Tensor]:
    cells, row, count = voxels.unique_voxels(coors)
    return [voxels.reduce_by_row(feats, row, count, reduce_type), cells, row, count]


def _dynamic_point_to_voxel_backward(
    grad_feats: Tensor, grad: Tensor, feats: Tensor, reduced: Tensor, row: Tensor, count: Tensor, reduce_type: str
) -> None:
    grad_feats.copy_(voxels.reduce_by_row_backward(grad, feats, row, count, reduce_type))


def _boxes_overlap_bev_forward(boxes_a: Tensor, boxes_b: Tensor, overlap: Tensor) -> None:
    columns = [0, 1, 3, 4, 6]
    overlap.copy_(bev_overlap(boxes_a[:, columns], boxes_b[:, columns]))


def _nms3d_forward(boxes: Tensor, keep: Tensor, num_out: Tensor, nms_overlap_thresh: float) -> None:
    # The boxes come sorted by score.
    kept = nms_rotated(boxes[:, [0, 1, 3, 4, 6]], -torch.arange(len(boxes)), nms_overlap_thresh)
    keep[: len(kept)] = kept
    num_out.fill_(len(kept))


def _nms3d_normal_forward(boxes: Tensor, keep: Tensor, num_out: Tensor, nms_overlap_thresh: float) -> None:
    straight = boxes.clone()
    straight[:, 6] = 0
    _nms3d_forward(straight, keep, num_out, nms_overlap_thresh)


def _nms_rotated(
    dets: Tensor, scores: Tensor, order: Tensor, dets_sorted: Tensor, labels: Tensor, iou_threshold: float, multi_label
) -> Tensor:
    classes = torch.unique(labels, return_inverse=True)[1] if multi_label else None
    return nms_rotated(dets, scores, iou_threshold, classes)


def _box_iou_rotated(first: Tensor, second: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    # In float32, since the smallest area is nothing in half precision.
    first, second = first.detach().float(), second.detach().float()
    if mode_flag == 0:
        result = bev_iou(first, second, aligned)
    else:
        area = (first[:, 2] * first[:, 3]).clamp(min=1e-14)
        result = bev_overlap(first, second, aligned) / (area if aligned else area[:, None])
    ious.copy_(result.view_as(ious))


_ON_CPU: dict[str, Callable[..., Any]] = {
    'furthest_point_sampling_forward': _furthest_point_sampling_forward,
    'furthest_point_sampling_with_dist_forward': _furthest_point_sampling_with_dist_forward,
    'ball_query_forward': _ball_query_forward,
    'knn_forward': _knn_forward,
    'three_nn_forward': _three_nn_forward,
    'group_points_forward': _gather_points_forward,
    'group_points_backward': _gather_points_backward,
    'gather_points_forward': _gather_points_forward,
    'gather_points_backward': _gather_points_backward,
    'three_interpolate_forward': _three_interpolate_forward,
    'three_interpolate_backward': _three_interpolate_backward,
    'points_in_boxes_part_forward': _points_in_boxes_part_forward,
    'points_in_boxes_all_forward': _points_in_boxes_all_forward,
    'points_in_boxes_cpu_forward': _points_in_boxes_cpu_forward,
    'roipoint_pool3d_forward': _roipoint_pool3d_forward,
    'roiaware_pool3d_forward': _roiaware_pool3d_forward,
    'roiaware_pool3d_backward': _roiaware_pool3d_backward,
    'dynamic_point_to_voxel_forward': _dynamic_point_to_voxel_forward,
    'dynamic_point_to_voxel_backward': _dynamic_point_to_voxel_backward,
    'iou3d_boxes_overlap_bev_forward': _boxes_overlap_bev_forward,
    'iou3d_nms3d_forward': _nms3d_forward,
    'iou3d_nms3d_normal_forward': _nms3d_normal_forward,
    'nms_rotated': _nms_rotated,
    'box_iou_rotated': _box_iou_rotated,
}


class _ByDevice:
    """Stands in for mmcv's compiled module: CPU tensors of the listed functions go to ours, the rest passes through."""

    def __init__(self, compiled: ModuleType) -> None:
        self.compiled = compiled

    def __getattr__(self, name: str) -> Any:
        theirs, ours = getattr(self.compiled, name), _ON_CPU.get(name)
        if ours is None:
            return theirs

        def call(first: Tensor, *args: Any, **kwargs: Any) -> Any:
            return (ours if first.device.type == 'cpu' else theirs)(first, *args, **kwargs)

        return call


def _patch_furthest_point_sampling(module: ModuleType) -> None:
    # mmcv allocates the result as a CUDA tensor whatever the points are, and without CUDA not at all.
    function = module.FurthestPointSampling
    theirs = function.forward

    def forward(ctx: Any, points_xyz: Tensor, num_points: int) -> Tensor:
        if points_xyz.device.type != 'cpu':
            return theirs(ctx, points_xyz, num_points)
        output = furthest_point_sample(points_xyz, num_points)
        ctx.mark_non_differentiable(output)
        return output

    function.forward = staticmethod(forward)


def _patch_voxelization(module: ModuleType) -> None:
    # mmcv allocates and clears max_voxels voxels before it knows how many there are: for pillars that costs more than
    # to find them.
    function = module._Voxelization
    theirs = function.forward

    def forward(
        ctx: Any, points: Tensor, voxel_size, coors_range, max_points: int = 35, max_voxels: int = 20000, *rest: bool
    ) -> Any:
        if points.device.type != 'cpu' or points.dtype != torch.float32:
            return theirs(ctx, points, voxel_size, coors_range, max_points, max_voxels, *rest)
        if -1 in (max_points, max_voxels):
            return voxels.dynamic_voxelize(points, voxel_size, coors_range)
        return voxels.hard_voxelize(points, voxel_size, coors_range, max_points, max_voxels)

    function.forward = staticmethod(forward)


def install() -> None:
    """Makes mmcv's LiDAR ops work on CPU tensors, for the whole process; a second call changes nothing."""
    for name in [*(f'mmcv.ops.{op}' for op in _OPS), *_VOXEL_LAYERS]:
        module = importlib.import_module(name)
        if isinstance(module.ext_module, _ByDevice):
            continue
        module.ext_module = _ByDevice(module.ext_module)
        if name == 'mmcv.ops.furthest_point_sample':
            _patch_furthest_point_sampling(module)
        elif name in _VOXEL_LAYERS:
            _patch_voxelization(module)
