"""mmcv's ops on CPU tensors, by the kernels of `ops/`, with the arguments of mmcv's compiled functions.

`LIDAR_OPS` are those that mmcv lacks on a CPU, or has in a slower or different form: they also take the place of its
compiled ones. `OTHER_OPS` give the same results as mmcv's compiled ones and are used where those are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perception3d.geometry.iou import bev_iou, bev_overlap
from perception3d.ops import neighbors, points_in_boxes
from perception3d.ops.deform_conv import modulated_deform_conv2d
from perception3d.ops.nms import nms_2d, nms_rotated
from perception3d.ops.point_sampling import furthest_point_sample, furthest_point_sample_with_distances
from perception3d.ops.voxels import (
    dynamic_voxelize,
    grid_size,
    hard_voxelize,
    reduce_by_row,
    reduce_by_row_backward,
    unique_voxels,
)

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
    x, y, z, most = cells.shape[1:]
    cells.copy_(points_in_boxes.cells_of_boxes(pts, rois, (x, y, z), most))
    values, winners = points_in_boxes.pool_cells(features, cells, _ROI_REDUCTIONS[pool_method])
    pooled.copy_(values)
    argmax.copy_(winners)


def _roiaware_pool3d_backward(cells: Tensor, argmax: Tensor, grad: Tensor, grad_in: Tensor, pool_method: int) -> None:
    reduction = _ROI_REDUCTIONS[pool_method]
    grad_in.copy_(points_in_boxes.pool_cells_backward(grad, cells, argmax, reduction, len(grad_in)))


def _dynamic_point_to_voxel_forward(feats: Tensor, coors: Tensor, reduce_type: str) -> list[Tensor]:
    cells, row, count = unique_voxels(coors)
    return [reduce_by_row(feats, row, count, reduce_type), cells, row, count]


def _dynamic_point_to_voxel_backward(
    grad_feats: Tensor, grad: Tensor, feats: Tensor, reduced: Tensor, row: Tensor, count: Tensor, reduce_type: str
) -> None:
    grad_feats.copy_(reduce_by_row_backward(grad, feats, row, count, reduce_type))


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
    first, second = (_at_least_float32(boxes.detach()) for boxes in (first, second))
    if mode_flag == 0:
        result = bev_iou(first, second, aligned)
    else:
        # In float32 or better, since the smallest area is nothing in half precision.
        area = (first[:, 2] * first[:, 3]).clamp(min=1e-14)
        result = bev_overlap(first, second, aligned) / (area if aligned else area[:, None])
    ious.copy_(result.view_as(ious))


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    return nms_2d(boxes, scores, iou_threshold, offset)


def _hard_voxelize_forward(
    points: Tensor, voxel_size: Tensor, coors_range: Tensor, voxels: Tensor, coors: Tensor,
    num_points_per_voxel: Tensor, voxel_num: Tensor, max_points: int, max_voxels: int, NDim: int, deterministic: bool,
) -> None:  # fmt: skip
    layer = voxel_size.tolist(), coors_range.tolist(), max_points, max_voxels
    for out, values in zip((voxels, coors, num_points_per_voxel), hard_voxelize(points, *layer), strict=True):
        out[: len(values)] = values
    voxel_num.fill_(len(values))


def _dynamic_voxelize_forward(
    points: Tensor, voxel_size: Tensor, coors_range: Tensor, coors: Tensor, NDim: int
) -> None:
    if points.dtype == torch.float32:
        coors.copy_(dynamic_voxelize(points, voxel_size.tolist(), coors_range.tolist()))
        return
    # In the type of the points, as mmcv does it.
    grid = torch.tensor(grid_size(voxel_size.tolist(), coors_range.tolist()))
    cells = ((points[:, :3] - coors_range[:3]) / voxel_size).floor()
    inside = ((cells >= 0) & (cells < grid)).all(1, keepdim=True)
    coors.copy_(cells.where(inside, -1).flip(1))


def _modulated_deform_conv_forward(
    input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor, mask: Tensor, output: Tensor,
    columns: Tensor, with_bias: bool, **layer: int,
) -> None:  # fmt: skip
    tensors = [_at_least_float32(tensor) for tensor in (input, offset, mask, weight, bias)]
    output.copy_(_deform_conv(tensors[: 4 + with_bias], layer))


def _modulated_deform_conv_backward(
    input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor, mask: Tensor, columns: Tensor,
    grad_input: Tensor, grad_weight: Tensor, grad_bias: Tensor, grad_offset: Tensor, grad_mask: Tensor,
    grad_output: Tensor, with_bias: bool, **layer: int,
) -> None:  # fmt: skip
    tensors = [_at_least_float32(tensor.detach()) for tensor in (input, offset, mask, weight, bias)]
    tensors = [tensor.requires_grad_() for tensor in tensors[: 4 + with_bias]]
    with torch.enable_grad():
        output = _deform_conv(tensors, layer)
    grads = torch.autograd.grad(output, tensors, grad_output.to(output.dtype))
    for out, grad in zip((grad_input, grad_offset, grad_mask, grad_weight, grad_bias), grads, strict=False):
        out.copy_(grad)


def _deform_conv(tensors: Sequence[Tensor], layer: dict[str, int]) -> Tensor:
    features, offset, mask, weight, *bias = tensors
    return modulated_deform_conv2d(
        features,
        offset,
        mask,
        weight,
        bias[0] if bias else None,
        stride=(layer['stride_h'], layer['stride_w']),
        padding=(layer['pad_h'], layer['pad_w']),
        dilation=(layer['dilation_h'], layer['dilation_w']),
        groups=layer['group'],
        deform_groups=layer['deformable_group'],
    )


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


LIDAR_OPS: dict[str, Callable[..., Any]] = {
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

OTHER_OPS: dict[str, Callable[..., Any]] = {
    'nms': _nms,
    'hard_voxelize_forward': _hard_voxelize_forward,
    'dynamic_voxelize_forward': _dynamic_voxelize_forward,
    'modulated_deform_conv_forward': _modulated_deform_conv_forward,
    'modulated_deform_conv_backward': _modulated_deform_conv_backward,
}
