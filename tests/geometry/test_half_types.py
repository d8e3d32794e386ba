"""Ops take tensors in half precision: they compute on their values as float32 and answer in their type."""

from __future__ import annotations

import pytest
import torch
from pooled import group_points, pool_box_cells, pool_by_voxel, three_interpolate

from perception3d.checks import InputError
from perception3d.geometry import iou
from perception3d.ops import (
    neighbors,
    nms,
    point_sampling,
    points_in_boxes,
    scatter,
    segments,
    sparse_conv,
    sparse_pairs,
    voxels,
)

HALVES = [torch.bfloat16, torch.float16]


def _random(*shape, low=0.0, high=1.0, seed=0):
    return low + (high - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _boxes(count, seed=0):
    low, high = torch.tensor([0.0, -4, -2, 2, 1, 1, -3]), torch.tensor([8.0, 4, -1, 5, 3, 2, 3])
    return low + _random(count, 7, seed=seed) * (high - low)


BOXES, OTHERS = _boxes(12), _boxes(9, seed=1)
BEV, BEV_OTHERS = BOXES[:, [0, 1, 3, 4, 6]], OTHERS[:, [0, 1, 3, 4, 6]]
SCORES, LABELS = torch.linspace(0.1, 0.9, 12), torch.arange(12) % 2
POINTS = _random(2, 60, 3, low=-2.0, high=4.0)
CENTERS = _random(2, 10, 3, low=-2.0, high=4.0, seed=1)
FEATURES, INDICES = _random(2, 4, 60, seed=2), torch.randint(0, 60, (2, 10, 3), generator=torch.Generator()).int()
ROWS, TABLE = _random(20, 8, seed=3), torch.tensor([3, -1, 3, 19, 0], dtype=torch.int32)
CELLS = torch.arange(20, dtype=torch.int32)[:, None] % 6
SITES = torch.tensor([[0, z, y, x] for z in range(3) for y in range(3) for x in range(3)], dtype=torch.int32)
PAIRS, COUNTS = sparse_pairs.submanifold_pairs(SITES, (3, 3, 3), (3, 3, 3), (1, 1, 1))

# Each op with its tensors of floating-point numbers. What has an order or an index of its own stays exact.
OPS = {
    'bev_iou': (iou.bev_iou, BEV, BEV_OTHERS),
    'bev_overlap': (iou.bev_overlap, BEV, BEV_OTHERS),
    'box_iou': (iou.box_iou, BOXES, OTHERS),
    'nms_rotated': (lambda bev, scores: nms.nms_rotated(bev, scores, 0.1, LABELS), BEV, SCORES),
    'nms_groups': (lambda bev, scores: nms.nms_groups(bev, scores, LABELS, [0.1, 4.0], [False, True]), BEV, SCORES),
    'points_in_boxes_part': (points_in_boxes.points_in_boxes_part, POINTS[:1], BOXES[None]),
    'points_in_boxes_all': (points_in_boxes.points_in_boxes_all, POINTS[:1], BOXES[None]),
    'pool_points_in_boxes': (
        lambda points, features, boxes: points_in_boxes.pool_points_in_boxes(points, features, boxes, 8),
        POINTS[:1],
        FEATURES[:1].transpose(1, 2),
        BOXES[None],
    ),
    'pool_box_cells': (
        lambda points, features, boxes: pool_box_cells(points, features, boxes, (2, 2, 2), 9, 'avg'),
        POINTS[0],
        FEATURES[0].T,
        BOXES,
    ),
    'ball_query': (lambda points, centers: neighbors.ball_query(points, centers, 0.0, 1.5, 8), POINTS, CENTERS),
    'nearest_points': (lambda points, centers: neighbors.nearest_points(points, centers, 5)[0], POINTS, CENTERS),
    'group_points': (lambda features: group_points(features, INDICES), FEATURES),
    'three_interpolate': (
        lambda features, weights: three_interpolate(features, INDICES, weights),
        FEATURES,
        _random(2, 10, 3, seed=4),
    ),
    'furthest_point_sample': (lambda points: point_sampling.furthest_point_sample(points, 20), POINTS),
    'furthest_point_sample_with_distances': (
        lambda distances: point_sampling.furthest_point_sample_with_distances(distances, 20),
        torch.cdist(POINTS, POINTS),
    ),
    'gather_rows': (lambda rows: scatter.gather_rows(rows, TABLE), ROWS),
    'gather_rows_torch': (lambda rows: scatter.gather_rows_torch(rows, TABLE), ROWS),
    'segment_max': (lambda rows: segments.segment_max(rows, torch.tensor([7, 1, 12])), ROWS),
    **{
        f'pool_by_voxel {reduction}': (lambda rows, by=reduction: pool_by_voxel(rows, CELLS, by)[0], ROWS)
        for reduction in ('sum', 'mean', 'max')
    },
    'sparse_conv': (
        lambda rows, filters: sparse_conv.sparse_conv(rows, filters, PAIRS, COUNTS, 27, False, True),
        _random(27, 4, low=-1.0, seed=5),
        _random(6, 3, 3, 3, 4, low=-1.0, seed=6),
    ),
}
# Those through which a gradient flows to their first tensor of features.
TRAINED = {'pool_box_cells': 1, 'group_points': 0, 'three_interpolate': 0, 'segment_max': 0, 'pool_by_voxel sum': 0,
           'pool_by_voxel mean': 0, 'pool_by_voxel max': 0}  # fmt: skip


def _results(op, tensors):
    results = op(*tensors)
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.parametrize('dtype', HALVES, ids=str)
@pytest.mark.parametrize('name', OPS)
def test_the_answer_is_that_in_float32_rounded(name, dtype):
    op, *tensors = OPS[name]
    halves = [tensor.to(dtype) for tensor in tensors]
    got, wanted = _results(op, halves), _results(op, [half.float() for half in halves])
    for ours, exact in zip(got, wanted, strict=True):
        assert exact.abs().max() > 0
        if exact.is_floating_point():
            assert ours.dtype == dtype
            torch.testing.assert_close(ours, exact.to(dtype))
        else:
            assert torch.equal(ours, exact)


@pytest.mark.parametrize('dtype', HALVES, ids=str)
@pytest.mark.parametrize('name', TRAINED)
def test_the_gradient_is_that_in_float32_rounded(name, dtype):
    op, *tensors = OPS[name]
    gradients = []
    for kind in (dtype, torch.float32):
        inputs = [tensor.to(dtype).to(kind) for tensor in tensors]
        inputs[TRAINED[name]].requires_grad_()
        op(*inputs).sum().backward()
        gradients.append(inputs[TRAINED[name]].grad)
    assert gradients[0].dtype == dtype and gradients[1].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1].to(dtype))


@pytest.mark.parametrize('dtype', HALVES, ids=str)
def test_sparse_convolutions_have_gradients_in_half_precision(dtype):
    _, rows, filters = OPS['sparse_conv']
    halves = [tensor.to(dtype) for tensor in (rows, filters, _random(27, 6, low=-1.0, seed=7))]
    got = sparse_conv.sparse_conv_backward(*halves, PAIRS, COUNTS, False, True)
    wanted = sparse_conv.sparse_conv_backward(*(half.float() for half in halves), PAIRS, COUNTS, False, True)
    for ours, exact in zip(got, wanted, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, exact.to(dtype))


@pytest.mark.parametrize('dtype', HALVES, ids=str)
def test_sums_of_rows_are_float32(dtype):
    values = ROWS[:5].to(dtype)
    sums = scatter.scatter_add_rows(values, TABLE, 20)
    assert sums.dtype == torch.float32
    torch.testing.assert_close(sums, scatter.scatter_add_rows(values.float(), TABLE, 20), rtol=0, atol=0)


@pytest.mark.parametrize('layer', ['hard', 'dynamic'])
@pytest.mark.parametrize('dtype', HALVES, ids=str)
def test_voxel_layers_refuse_coordinates_that_are_rounded_to_decimetres(layer, dtype):
    arguments = (POINTS[0].to(dtype), [0.1, 0.1, 0.1], [-2, -2, -2, 4, 4, 4])
    with pytest.raises(InputError, match='float32'):
        if layer == 'hard':
            voxels.hard_voxelize(*arguments, 5, 100)
        else:
            voxels.dynamic_voxelize(*arguments)
