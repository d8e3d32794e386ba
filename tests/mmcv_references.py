"""What mmcv's own CPU kernels answer for fixed inputs: stored files, and the way to make them again.

A test compares with the stored values everywhere; where mmcv has compiled ops, `tests/compat/test_mmcv_references.py`
compares the stored values with the kernels. To store them again, with compiled ops (`make setup MMCV_OPS=1`):

    python tests/mmcv_references.py
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import perception3d  # noqa: F401  (mmcv cannot be imported without its ops otherwise)
from perception3d.compat.mmcv_ext import BUILD_COMMAND, ops_are_compiled

FOLDER = Path(__file__).resolve().parent / 'data' / 'mmcv_ops'
Tensors = dict[str, Tensor]

needs_ops = pytest.mark.skipif(
    not ops_are_compiled(), reason=f'compares with mmcv itself, whose ops are not compiled: {BUILD_COMMAND}'
)

# Groups, groups of offsets, stride, padding, dilation.
DEFORM_LAYERS = [(1, 1, (1, 1), (1, 1), (1, 1)), (2, 4, (2, 1), (2, 0), (1, 2)), (4, 2, (1, 2), (0, 1), (2, 1))]
# Sizes of voxels, range, points of a voxel, voxels of a cloud. The last one is short of both.
VOXEL_LAYERS = [
    ([0.16, 0.16, 4], [0, -39.68, -3, 69.12, 39.68, 1], 5, 100),
    ([0.2, 0.2, 0.2], [0, -20, -3, 40, 20, 1], 4, 100),
    ([1.0, 1.0, 4], [0, -39.68, -3, 69.12, 39.68, 1], 2, 30),
]
# Length and width of boxes are multiplied with it before IoU is taken, which is then compared with a threshold.
FACTORS = (1.0, 0.7, 0.55, 0.4, 0.7, 1.0, 1.0, 4.5, 9.0, 1.0)
THRESHOLDS = (0.2,) * 7 + (0.5, 0.5)


def load(name: str) -> Tensors:
    """The stored inputs and what mmcv's kernels made of them."""
    with np.load(FOLDER / f'{name}.npz', allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def _random(seed: int) -> Callable[[list, list, int], Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: list, high: list, count: int) -> Tensor:
        low, high = torch.tensor(low, dtype=torch.float32), torch.tensor(high, dtype=torch.float32)
        return low + torch.rand(count, len(low), generator=generator) * (high - low)

    return uniform


def _bev(spread: float, seed: int) -> Callable[[], Tensors]:
    def inputs() -> Tensors:
        low, high = [-spread / 2, -spread / 2, 0.3, 0.3, -7], [spread / 2, spread / 2, 6, 6, 7]
        uniform = _random(seed)
        first, second = uniform(low, high, 24), uniform(low, high, 20)
        # The same box, one inside, one that shares an edge, and one without area. A box that is turned by pi is left
        # out: mmcv answers 0.62, not 1, for the second one of the far boxes.
        second[:4] = first[:4]
        second[1, 2:4] *= 0.5
        second[2, :2] += first[2, 2] * torch.stack([first[2, 4].cos(), first[2, 4].sin()])
        second[3, 2] = 0
        return {'first': first, 'second': second}

    return inputs


def _overlaps(data: Tensors) -> Tensors:
    stored = {}
    for flag, mode in enumerate(('iou', 'iof')):
        stored[mode] = _iou(data['first'], data['second'], flag)
        stored[f'aligned_{mode}'] = _iou(data['first'][:20], data['second'], flag, True)
    return stored


def _iou(first: Tensor, second: Tensor, flag: int = 0, aligned: bool = False) -> Tensor:
    from mmcv import _ext

    out = torch.zeros(len(first) if aligned else len(first) * len(second))
    _ext.box_iou_rotated(first.contiguous(), second.contiguous(), out, mode_flag=flag, aligned=aligned)
    return out if aligned else out.view(len(first), -1)


def _scored_boxes() -> Tensors:
    uniform = _random(3)
    boxes = uniform([0.0, -6, -2, 1, 1, 1, -3], [12.0, 6, 0, 5, 3, 2, 3], 50)
    return {'boxes': boxes, 'scores': uniform([0], [1], 50)[:, 0]}


def _suppression(data: Tensors) -> Tensors:
    from mmcv import _ext

    bev = data['boxes'][:, [0, 1, 3, 4, 6]].contiguous()
    straight = bev.clone()
    straight[:, 4] = 0
    order = data['scores'].argsort(descending=True)
    none = bev.new_empty(0, dtype=torch.int)
    kept = {
        f'kept_{bound}': _ext.nms_rotated(bev, data['scores'], order, bev[order], none, bound, False)
        for bound in (0.1, 0.5)
    }
    return {'iou': _iou(bev, bev), 'straight_iou': _iou(straight, straight), **kept}


def _image_boxes() -> Tensors:
    uniform = _random(4)
    low = uniform([0.0, 0], [60.0, 40], 80)
    # No two scores are equal: the order that mmcv takes those in depends on the processor.
    scores = uniform([0], [1], 80)[:, 0]
    return {'boxes': torch.cat([low, low + uniform([1.0, 1], [40.0, 30], 80)], 1), 'scores': scores}


def _suppression_2d(data: Tensors) -> Tensors:
    from mmcv import _ext

    return {
        f'kept_{offset}_{bound}': _ext.nms(data['boxes'], data['scores'], iou_threshold=bound, offset=offset)
        for offset in (0, 1)
        for bound in (0.2, 0.6)
    }


def _deform_inputs(layer: tuple) -> Callable[[], Tensors]:
    def inputs() -> Tensors:
        groups, deform_groups, stride, padding, dilation = layer
        generator = torch.Generator().manual_seed(5)
        weight = torch.randn(4, 8 // groups, 3, 2, generator=generator)
        features = torch.randn(2, 8, 5, 3, generator=generator)
        hw = torch.conv2d(features, weight, None, stride, padding, dilation, groups).shape[2:]
        offset = torch.rand(2, deform_groups * 12, *hw, generator=generator) * 4 - 2
        # Taps on pixels and on the border of what is read.
        offset.view(-1)[::5] = offset.view(-1)[::5].round()
        mask = torch.rand(2, deform_groups * 6, *hw, generator=generator)
        bias, grad = torch.randn(4, generator=generator), torch.randn(2, 4, *hw, generator=generator)
        return {'features': features, 'offset': offset, 'mask': mask, 'weight': weight, 'bias': bias, 'grad': grad}

    return inputs


def _deform(layer: tuple) -> Callable[[Tensors], Tensors]:
    return lambda data: deform_by_mmcv(data, layer, torch.float64)


def deform_by_mmcv(data: Tensors, layer: tuple, dtype: torch.dtype) -> Tensors:
    """The output and the gradients of mmcv's function, computed in `dtype`, as float32."""
    from mmcv.ops import modulated_deform_conv2d

    groups, deform_groups, stride, padding, dilation = layer
    names = ('features', 'offset', 'mask', 'weight', 'bias')
    tensors = [data[name].to(dtype).requires_grad_() for name in names]
    output = modulated_deform_conv2d(*tensors, stride, padding, dilation, groups, deform_groups)
    grads = torch.autograd.grad(output, tensors, data['grad'].to(dtype))
    stored = {'output': output.detach(), **{f'grad_{name}': grad for name, grad in zip(names, grads, strict=True)}}
    return {name: tensor.float() for name, tensor in stored.items()}


def _points() -> Tensors:
    points = _random(6)([-5.0, -45, -3.5, 0, 0], [75.0, 45, 1.5, 1, 1], 150)
    # Clumps, so that voxels overflow, and points on the borders of cells.
    points[::3, :3] = points[::3, :3] * 0.01 + torch.tensor([10.0, 3, -1])
    points[1::7, :3] = (points[1::7, :3] / 0.4).round() * 0.4
    return {'points': points}


def _voxels(data: Tensors) -> Tensors:
    from mmcv import _ext

    stored = {}
    for k, (size, span, max_points, max_voxels) in enumerate(VOXEL_LAYERS):
        layer = torch.tensor(size), torch.tensor(span).float()
        voxels, coords = torch.zeros(max_voxels, max_points, 5), torch.zeros(max_voxels, 3).int()
        count, number = torch.zeros(max_voxels).int(), torch.zeros((), dtype=torch.long)
        _ext.hard_voxelize_forward(
            data['points'], *layer, voxels, coords, count, number,
            max_points=max_points, max_voxels=max_voxels, NDim=3, deterministic=True,
        )  # fmt: skip
        cells = torch.zeros(len(data['points']), 3).int()
        _ext.dynamic_voxelize_forward(data['points'], *layer, cells, NDim=3)
        stored.update({f'voxels_{k}': voxels[:number], f'coords_{k}': coords[:number], f'count_{k}': count[:number]})
        stored[f'cells_{k}'] = cells
    return stored


def _points_and_boxes() -> Tensors:
    uniform = _random(7)
    points = uniform([0.0, 0, 0], [10.0, 10, 3], 300)
    return {'points': points, 'boxes': uniform([0.0, 0, -0.5, 0.5, 0.5, 0.5, -9], [10.0, 10, 1, 6, 3, 3, 9], 12)}


def _points_in_boxes(data: Tensors) -> Tensors:
    from mmcv import _ext

    marked = torch.zeros(12, 300, dtype=torch.int32)
    _ext.points_in_boxes_cpu_forward(data['boxes'], data['points'], marked)
    return {'marked': marked.bool()}


def _candidates() -> Tensors:
    uniform = _random(8)
    boxes = uniform([-8.0, -8, 0, 0.3, 0.3, 0, 0, 0, 0], [8.0, 8, 1, 4.3, 4.3, 1, 6, 1, 1], 80)
    return {'boxes': boxes, 'scores': uniform([0.0] * 10, [1.0] * 10, 80) ** 3}


def _scaled_overlaps(data: Tensors) -> Tensors:
    over = []
    for factor, threshold in zip(FACTORS, THRESHOLDS, strict=False):
        bev = data['boxes'][:, [0, 1, 3, 4, 6]].clone()
        bev[:, 2:4] *= factor
        over.append(_iou(bev, bev) > threshold)
    return {'over': torch.stack(over)}


# Inputs, and what mmcv's compiled kernels make of them.
CASES: dict[str, tuple[Callable[[], Tensors], Callable[[Tensors], Tensors]]] = {
    'overlaps_near': (_bev(3.0, 1), _overlaps),
    'overlaps_far': (_bev(20.0, 2), _overlaps),
    'suppression': (_scored_boxes, _suppression),
    'suppression_2d': (_image_boxes, _suppression_2d),
    **{f'deform_conv_{k}': (_deform_inputs(layer), _deform(layer)) for k, layer in enumerate(DEFORM_LAYERS)},
    'voxels': (_points, _voxels),
    'points_in_boxes': (_points_and_boxes, _points_in_boxes),
    'scaled_overlaps': (_candidates, _scaled_overlaps),
}


def main() -> int:
    """Stores every case again; returns 1 where mmcv has no compiled ops."""
    from perception3d.files import write_whole

    if not ops_are_compiled():
        print(f'error: mmcv is installed without its compiled ops: {BUILD_COMMAND}', file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (make, compute) in CASES.items():
        data = make()
        arrays = {key: tensor.numpy() for key, tensor in {**data, **compute(data)}.items()}
        stored = io.BytesIO()
        np.savez_compressed(stored, **arrays)
        with write_whole(FOLDER / f'{name}.npz') as temporary:
            temporary.write_bytes(stored.getvalue())
        print(f'{name}: {len(stored.getvalue())} bytes')
    return 0


if __name__ == '__main__':
    sys.exit(main())
