"""Points in boxes and pooling by box, against mmcv's CPU kernel and plain loops."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from mmcv import _ext
from mmcv_references import load, needs_ops
from pooled import pool_box_cells

from perception3d.checks import InputError
from perception3d.ops import points_in_boxes as ours


def _scene(points=600, boxes=12, clouds=2):
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(clouds, points, 3, generator=generator) * torch.tensor([10.0, 10, 3])
    low, high = torch.tensor([0.0, 0, -0.5, 0.5, 0.5, 0.5, -9]), torch.tensor([10.0, 10, 1, 6, 3, 3, 9])
    return xyz, low + torch.rand(clouds, boxes, 7, generator=generator) * (high - low)


def _inside(points, box):
    """Plain definition in float64; the points of the scenes are not within rounding of a side."""
    x, y, z = (points - box[:3]).double().unbind(-1)
    c, s = math.cos(box[6]), math.sin(box[6])
    along, across = x * c + y * s, y * c - x * s
    return (along.abs() < box[3] / 2) & (across.abs() < box[4] / 2) & (z >= 0) & (z <= box[5])


def test_points_in_boxes_are_those_of_the_definition():
    points, boxes = _scene()
    marked = ours.points_in_boxes_all(points, boxes)
    assert marked.dtype == torch.int32 and marked.sum() > 200
    for b in range(2):
        for t, box in enumerate(boxes[b]):
            assert torch.equal(marked[b, :, t].bool(), _inside(points[b], box))


@needs_ops
def test_points_in_boxes_are_those_of_mmcv():
    points, boxes = _scene()
    for cloud, row, marked in zip(points, boxes, ours.points_in_boxes_all(points, boxes), strict=True):
        theirs = torch.zeros(12, 600, dtype=torch.int32)
        _ext.points_in_boxes_cpu_forward(row.contiguous(), cloud.contiguous(), theirs)
        assert torch.equal(marked, theirs.T)


def test_points_in_boxes_are_the_stored_ones_of_mmcv():
    stored = load('points_in_boxes')
    marked = ours.points_in_boxes_all(stored['points'][None], stored['boxes'][None])[0]
    assert torch.equal(marked.T.bool(), stored['marked'])


def test_the_first_box_wins_and_points_in_none_have_minus_one():
    points, boxes = _scene()
    marked = ours.points_in_boxes_all(points, boxes)
    first = torch.where(marked.any(-1), marked.argmax(-1), -1)
    assert (first < 0).any() and (marked.sum(-1) > 1).any()
    assert torch.equal(ours.points_in_boxes_part(points, boxes), first.int())


def test_sides_are_outside_and_bottom_and_top_are_inside():
    box = torch.tensor([[[1.0, 2, 3, 4, 2, 1, 0]]])
    points = torch.tensor([[[1.0, 2, 3], [1, 2, 4], [3, 2, 3.5], [1, 3, 3.5], [1, 2, 2.99], [2.99, 2.99, 3.5]]])
    assert ours.points_in_boxes_part(points, box).tolist() == [[0, 0, -1, -1, -1, 0]]
    assert ours.points_in_boxes_part(points * torch.nan, box).unique().tolist() == [-1]


def test_no_boxes_hold_no_points():
    points, boxes = _scene()
    assert ours.points_in_boxes_part(points, boxes[:, :0]).unique().tolist() == [-1]
    assert ours.points_in_boxes_all(points, boxes[:, :0]).shape == (2, 600, 0)


@pytest.mark.parametrize('samples', [4, 64])
@pytest.mark.parametrize('points', [200, 900])
def test_a_box_is_given_its_first_points_in_turn(samples, points):
    xyz, boxes = _scene(points)
    boxes[:, 3, 0] += 100
    features = torch.randn(2, points, 5)
    pooled, empty = ours.pool_points_in_boxes(xyz, features, boxes, samples)
    for b in range(2):
        for t, box in enumerate(boxes[b]):
            found = _inside(xyz[b], box).nonzero().flatten()[:samples]
            assert empty[b, t] == (len(found) == 0)
            if not len(found):
                assert not pooled[b, t].any()
                continue
            chosen = found[torch.arange(samples) % len(found)]
            assert torch.equal(pooled[b, t], torch.cat([xyz[b, chosen], features[b, chosen]], 1))
    assert empty[:, 3].all() and not empty.all()


def _cells_one_by_one(points, boxes, grid, most):
    cells = [[[] for _ in range(math.prod(grid))] for _ in boxes]
    for t, box in enumerate(boxes):
        for n in _inside(points, box).nonzero().flatten().tolist():
            x, y, z = (points[n] - box[:3]).tolist()
            c, s = math.cos(box[6]), math.sin(box[6])
            local = x * c + y * s + box[3] / 2, y * c - x * s + box[4] / 2, z
            place = [min(int(v / d * g), g - 1) for v, d, g in zip(local, box[3:6].tolist(), grid, strict=True)]
            kept = cells[t][(place[0] * grid[1] + place[1]) * grid[2] + place[2]]
            if len(kept) < most:
                kept.append(n)
    return cells


@pytest.mark.parametrize('reduction', ['max', 'avg'])
def test_cells_of_boxes_are_pooled_by_their_definition(reduction):
    points, boxes = (part[0] for part in _scene())
    features = torch.randn(600, 4, generator=torch.Generator().manual_seed(1))
    grid, most = (3, 2, 2), 4
    pooled = pool_box_cells(points, features, boxes, grid, most + 1, reduction)
    assert pooled.shape == (12, 3, 2, 2, 4)
    for values, kept_of_box in zip(pooled.flatten(1, 3), _cells_one_by_one(points, boxes, grid, most), strict=True):
        for value, kept in zip(values, kept_of_box, strict=True):
            wanted = torch.zeros(4)
            if kept:
                wanted = features[kept].amax(0) if reduction == 'max' else features[kept].mean(0)
            assert torch.allclose(value, wanted, atol=1e-6)


@pytest.mark.parametrize('reduction', ['max', 'avg'])
def test_pooling_of_cells_has_the_gradient_of_its_definition(reduction):
    points, boxes = (part[0] for part in _scene(60))
    features = torch.randn(60, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: pool_box_cells(points, f, boxes, (2, 1, 2), 5, reduction), features)


def test_wrong_input_says_so():
    points, boxes = _scene()
    with pytest.raises(InputError, match=r'boxes \(B, T, >=7\)'):
        ours.points_in_boxes_all(points, boxes[..., :6])
    with pytest.raises(InputError, match='expected features'):
        ours.pool_points_in_boxes(points, torch.zeros(2, 5, 1), boxes, 4)
    with pytest.raises(InputError, match="unknown reduction 'mean'"):
        pool_box_cells(points[0], points[0], boxes[0], (2, 2, 2), 4, 'mean')


def test_a_forked_worker_marks_points_after_its_parent_used_threads():
    code = """
import os
import torch
import perception3d
from perception3d.ops import points_in_boxes
from perception3d.ops import voxels
points, boxes = torch.rand(1, 50, 3), torch.rand(1, 4, 7)
points_in_boxes.pool_points_in_boxes(points, points, boxes, 4)
child = os.fork()
if child == 0:
    torch.set_num_threads(1)
    points_in_boxes.points_in_boxes_all(points, boxes)
    points_in_boxes.points_in_boxes_part(points, boxes)
    voxels.hard_voxelize(points[0], [0.1] * 3, [0, 0, 0, 1, 1, 1], 5, 50)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    environment = {'PATH': '/usr/bin:/bin', 'NUMBA_NUM_THREADS': '2'}
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=environment)
    assert out.stdout.split() == ['0'], out.stderr[-500:]
