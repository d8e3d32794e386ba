"""Lets mmcv's LiDAR ops work on CPU tensors, so that mmdet3d's modules run unchanged with or without a GPU.

The compiled module that mmcv's Python functions call has no CPU kernels for most of these ops, and slow ones for
others. `install` puts a thin object in its place that sends a call with CPU tensors to `compat/mmcv_on_cpu.py` and all
others on: mmcv's modules, autograd functions and argument checks stay what they are. What differs from mmcv's own CPU
kernels:

- `nms_rotated` heeds `labels` and suppresses above the threshold, as on CUDA (mmcv's CPU kernel ignores labels and
  suppresses at the threshold too). Boxes or scores that are not finite are dropped.
- `voxelization` takes `deterministic=False` too; the result is the deterministic one.
- `points_in_boxes_cpu`, `box_iou_rotated` and `voxelization` give what they gave, and are faster. `box_iou_rotated` is
  also right where mmcv's loses corners: a box and itself rotated by pi gave 0.62 in a test.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from perception3d.compat.mmcv_on_cpu import LIDAR_OPS
from perception3d.ops import voxels
from perception3d.ops.point_sampling import furthest_point_sample

_OPS = (
    'ball_query', 'box_iou_rotated', 'furthest_point_sample', 'gather_points', 'group_points', 'iou3d', 'knn', 'nms',
    'points_in_boxes', 'roiaware_pool3d', 'roipoint_pool3d', 'scatter_points', 'three_interpolate', 'three_nn',
)  # fmt: skip
# mmdet3d has a voxel layer of its own next to mmcv's.
_VOXEL_LAYERS = ('mmcv.ops.voxelize', 'mmdet3d.models.data_preprocessors.voxelize')


class _ByDevice:
    """Replaces mmcv's compiled module: calls of the listed functions with CPU tensors go to our kernels."""

    def __init__(self, compiled: ModuleType) -> None:
        self.compiled = compiled

    def __getattr__(self, name: str) -> Any:
        compiled, on_cpu = getattr(self.compiled, name), LIDAR_OPS.get(name)
        if on_cpu is None:
            return compiled

        def call(first: Tensor, *args: Any, **kwargs: Any) -> Any:
            return (on_cpu if first.device.type == 'cpu' else compiled)(first, *args, **kwargs)

        return call


def _patch_furthest_point_sampling(module: ModuleType) -> None:
    # mmcv allocates the result as a CUDA tensor whatever the points are, and without CUDA not at all.
    function = module.FurthestPointSampling
    compiled = function.forward

    def forward(ctx: Any, points_xyz: Tensor, num_points: int) -> Tensor:
        if points_xyz.device.type != 'cpu':
            return compiled(ctx, points_xyz, num_points)
        output = furthest_point_sample(points_xyz, num_points)
        ctx.mark_non_differentiable(output)
        return output

    function.forward = staticmethod(forward)


def _patch_voxelization(module: ModuleType) -> None:
    # mmcv allocates and clears max_voxels voxels before it knows how many there are: for pillars that costs more than
    # to find them.
    function = module._Voxelization
    compiled = function.forward

    def forward(
        ctx: Any, points: Tensor, voxel_size, coors_range, max_points: int = 35, max_voxels: int = 20000, *rest: bool
    ) -> Any:
        if points.device.type != 'cpu' or points.dtype != torch.float32:
            return compiled(ctx, points, voxel_size, coors_range, max_points, max_voxels, *rest)
        if -1 in (max_points, max_voxels):
            return voxels.dynamic_voxelize(points, voxel_size, coors_range)
        return voxels.hard_voxelize(points, voxel_size, coors_range, max_points, max_voxels)

    function.forward = staticmethod(forward)


def install() -> None:
    """Makes mmcv's LiDAR ops work on CPU tensors, for the whole process; a second call changes nothing."""
    for name in [*(f'mmcv.ops.{op}' for op in _OPS), *_VOXEL_LAYERS]:
        module: Any = importlib.import_module(name)
        if isinstance(module.ext_module, _ByDevice):
            continue
        module.ext_module = _ByDevice(module.ext_module)
        if name == 'mmcv.ops.furthest_point_sample':
            _patch_furthest_point_sampling(module)
        elif name in _VOXEL_LAYERS:
            _patch_voxelization(module)
