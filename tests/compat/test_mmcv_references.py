"""The stored values of mmcv's kernels: they are small, our ops give them, and mmcv itself gives them."""

from __future__ import annotations

import mmcv.ops
import pytest
import torch
from mmcv_references import CASES, DEFORM_LAYERS, FOLDER, VOXEL_LAYERS, Tensors, deform_by_mmcv, load, needs_ops

from perception3d.compat.mmcv_on_cpu import LIDAR_OPS, OTHER_OPS


def test_each_case_is_stored_in_a_small_file():
    stored = {path.stem: path.stat().st_size for path in FOLDER.iterdir()}
    assert stored.keys() == CASES.keys() and max(stored.values()) < 12_000


@needs_ops
@pytest.mark.parametrize('name', CASES)
def test_stored_values_are_those_of_mmcv(name):
    stored, (make, compute) = load(name), CASES[name]
    assert all(torch.equal(stored[key], tensor) for key, tensor in make().items())
    for key, tensor in compute(stored).items():
        torch.testing.assert_close(stored[key], tensor, rtol=1e-6, atol=1e-6)


def _deform_by_ours(data: Tensors, layer: tuple, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> Tensors:
    """The same through mmcv's function by our kernels, whether or not its own are there."""
    ext = mmcv.ops.modulated_deform_conv2d.__self__.forward.__globals__['ext_module']
    for name in ('modulated_deform_conv_forward', 'modulated_deform_conv_backward'):
        monkeypatch.setattr(ext, name, OTHER_OPS[name])
    return deform_by_mmcv(data, layer, dtype)


@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-6), (torch.float32, 2e-5)])
@pytest.mark.parametrize('k', range(len(DEFORM_LAYERS)))
def test_modulated_deformable_convolution_and_its_gradients(k, dtype, tolerance, monkeypatch):
    stored = load(f'deform_conv_{k}')
    ours = _deform_by_ours(stored, DEFORM_LAYERS[k], dtype, monkeypatch)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, stored[name], rtol=tolerance, atol=tolerance, msg=name)
        assert tensor.abs().max() > 0.1


def test_2d_suppression():
    stored = load('suppression_2d')
    for offset in (0, 1):
        for bound in (0.2, 0.6):
            kept = OTHER_OPS['nms'](stored['boxes'], stored['scores'], bound, offset)
            assert torch.equal(kept, stored[f'kept_{offset}_{bound}']) and 5 < len(kept) < 80


def test_rotated_suppression_without_labels():
    stored = load('suppression')
    bev = stored['boxes'][:, [0, 1, 3, 4, 6]].contiguous()
    order, none = stored['scores'].argsort(descending=True), torch.zeros(0)
    for bound in (0.1, 0.5):
        kept = LIDAR_OPS['nms_rotated'](bev, stored['scores'], order, bev[order], none, bound, False)
        assert torch.equal(kept, stored[f'kept_{bound}']) and 5 < len(kept) < 50


@pytest.mark.parametrize('name', ['overlaps_near', 'overlaps_far'])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('aligned', [False, True])
def test_rotated_overlaps(name, mode, aligned):
    stored = load(name)
    wanted = stored[f'aligned_{mode}' if aligned else mode]
    ours = torch.zeros(wanted.numel())
    first = stored['first'][:20] if aligned else stored['first']
    LIDAR_OPS['box_iou_rotated'](first, stored['second'], ours, mode_flag=int(mode == 'iof'), aligned=aligned)
    torch.testing.assert_close(ours.view_as(wanted), wanted, rtol=0, atol=2e-5)
    assert (ours > 0.05).sum() >= 2


@pytest.mark.parametrize('k', range(len(VOXEL_LAYERS)))
def test_voxels(k):
    stored, (size, span, max_points, max_voxels) = load('voxels'), VOXEL_LAYERS[k]
    layer = torch.tensor(size), torch.tensor(span).float()
    points, number = stored['points'], torch.zeros((), dtype=torch.long)
    ours = [torch.zeros(max_voxels, max_points, 5), torch.zeros(max_voxels, 3).int(), torch.zeros(max_voxels).int()]
    OTHER_OPS['hard_voxelize_forward'](
        points, *layer, *ours, number, max_points=max_points, max_voxels=max_voxels, NDim=3, deterministic=True
    )
    for name, tensor in zip(('voxels', 'coords', 'count'), ours, strict=True):
        assert torch.equal(tensor[:number], stored[f'{name}_{k}']) and not tensor[number:].any()
    for dtype in (torch.float32, torch.float64):
        cells = torch.zeros(len(points), 3).int()
        OTHER_OPS['dynamic_voxelize_forward'](points.to(dtype), *layer, cells, NDim=3)
        # In float64 a point on the border of a cell may lie on its other side.
        wrong = (cells != stored[f'cells_{k}']).any(1).sum()
        assert wrong == 0 if dtype == torch.float32 else wrong < 30


def test_points_in_boxes():
    stored = load('points_in_boxes')
    marked = torch.zeros(12, 300, dtype=torch.int32)
    LIDAR_OPS['points_in_boxes_cpu_forward'](stored['boxes'], stored['points'], marked)
    assert torch.equal(marked.bool(), stored['marked']) and marked.sum() > 50
