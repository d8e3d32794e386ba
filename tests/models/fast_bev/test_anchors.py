"""Anchors and box coder against mmdet3d and the released convention."""

from __future__ import annotations

import math

import torch
from legacy_head import DIR_OFFSET, legacy_corners_xy, make_anchors, to_legacy, wrap

from perception3d.geometry.boxes import corners
from perception3d.models.fast_bev import anchors as anchor_ops

SHAPE = (12, 7)
RANGE_M = (-6.0, -5.0, 6.0, 5.0)


def all_anchors(grid: anchor_ops.AnchorGrid) -> torch.Tensor:
    """Anchor boxes (Y*X*A, 7) in the released flat order."""
    y, x, a = torch.meshgrid(torch.arange(SHAPE[1]), torch.arange(SHAPE[0]), torch.arange(grid.per_cell), indexing='ij')
    return grid.boxes(a.flatten(), x.flatten(), y.flatten(), SHAPE)


def test_anchors_lie_where_the_released_ones_do() -> None:
    grid = anchor_ops.AnchorGrid(range_m=RANGE_M)
    native = torch.cat([all_anchors(grid).double(), torch.zeros(len(all_anchors(grid)), 2)], 1)
    legacy = make_anchors(SHAPE, RANGE_M)
    torch.testing.assert_close(to_legacy(native), legacy, atol=1e-6, rtol=0)


def test_anchors_equal_mmdet3d_generator() -> None:
    from mmdet3d.models.task_modules.anchor import AlignedAnchor3DRangeGenerator

    grid = anchor_ops.AnchorGrid(range_m=RANGE_M)
    stock = AlignedAnchor3DRangeGenerator(
        ranges=[[*RANGE_M[:2], -1.8, *RANGE_M[2:], -1.8]],
        sizes=[list(size) for size in grid.sizes],
        rotations=list(grid.rotations),
    )
    (expected,) = stock.grid_anchors([(SHAPE[1], SHAPE[0])], device='cpu')
    torch.testing.assert_close(all_anchors(grid), expected, atol=1e-5, rtol=0)


def test_fields_and_boxes_agree() -> None:
    grid = anchor_ops.AnchorGrid(range_m=RANGE_M)
    field = grid.coordinates(SHAPE, 'cpu')
    a, x, y = torch.tensor([0, 3, 7]), torch.tensor([0, 11, 5]), torch.tensor([6, 0, 3])
    boxes = grid.boxes(a, x, y, SHAPE)
    full = [f.expand(grid.per_cell, *SHAPE)[a, x, y] for f in field]
    torch.testing.assert_close(torch.stack(full, 1), boxes[:, [0, 1, 3, 4, 5, 6]])
    torch.testing.assert_close(field.diagonal.flatten()[a], boxes[:, 3:5].norm(dim=1))


def test_coder_equals_mmdet3d_and_returns_the_box() -> None:
    from mmdet3d.models.task_modules.coders import DeltaXYZWLHRBBoxCoder

    torch.manual_seed(0)
    anchors = all_anchors(anchor_ops.AnchorGrid(range_m=RANGE_M))
    boxes = torch.rand(len(anchors), 9) * 4 + 0.1
    ours = anchor_ops.encode(anchors, boxes)
    padded = torch.cat([anchors, torch.zeros(len(anchors), 2)], 1)
    torch.testing.assert_close(ours, DeltaXYZWLHRBBoxCoder.encode(padded, boxes))
    torch.testing.assert_close(anchor_ops.decode(anchors, ours), boxes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(anchor_ops.decode(anchors, ours), DeltaXYZWLHRBBoxCoder.decode(padded, ours))


def test_wild_predictions_give_finite_boxes() -> None:
    anchors = all_anchors(anchor_ops.AnchorGrid(range_m=RANGE_M))[:5]
    boxes = anchor_ops.decode(anchors, torch.full((5, 9), 1e4))
    assert boxes.isfinite().all() and boxes[:, 3:6].max() < 200
    codes = anchor_ops.encode(anchors, torch.zeros(5, 9))
    assert codes.isfinite().all()


def test_direction_bins_coincide_with_the_released_ones() -> None:
    yaw = (torch.rand(20000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5) * 20
    legacy = -yaw - math.pi / 2
    released = (wrap(legacy - DIR_OFFSET, 0, 2 * math.pi) // math.pi).long()
    ours = anchor_ops.direction_bin(yaw, math.pi / 4)
    assert (released == ours).double().mean() > 0.9999
    half_off = anchor_ops.resolve_direction(yaw + math.pi, ours, math.pi / 4)
    torch.testing.assert_close(torch.cos(half_off), torch.cos(yaw))
    torch.testing.assert_close(torch.sin(half_off), torch.sin(yaw))


def test_both_conventions_describe_the_same_footprint() -> None:
    boxes = torch.rand(20, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 4
    for box, old in zip(boxes, to_legacy(boxes), strict=True):
        native = corners(box[None, :7])[0, ::2, :2]
        released = legacy_corners_xy(old)
        assert torch.cdist(native, released).min(1).values.max() < 1e-9
