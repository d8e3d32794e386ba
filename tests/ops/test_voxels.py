"""Voxels equal to mmcv's, and pooling by voxel against its definition."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from mmcv import _ext
from mmcv_references import VOXEL_LAYERS, load, needs_ops
from pooled import pool_by_voxel

from perception3d.checks import InputError
from perception3d.compat.mmcv_ext import ops_are_compiled
from perception3d.ops import voxels

SECOND = [0.05, 0.05, 0.1], [0, -40, -3, 70.4, 40, 1]
PILLARS = [0.16, 0.16, 4], [0, -39.68, -3, 69.12, 39.68, 1]


def _voxels_one_by_one(points, voxel_size, point_range, max_points, max_voxels):
    """The definition, in float32, point by point."""
    size, span = np.float32(voxel_size), np.float32(point_range)
    grid = [math.floor(float(v) + 0.5) for v in (span[3:] - span[:3]) / size]
    found = {}
    for point in points.numpy():
        cell = [math.floor(v) if np.isfinite(v) else -1 for v in (point[:3] - span[:3]) / size]
        if not all(0 <= c < n for c, n in zip(cell, grid, strict=True)):
            continue
        if tuple(cell) not in found and len(found) == max_voxels:
            continue
        kept = found.setdefault(tuple(cell), [])
        if len(kept) < max_points:
            kept.append(point)
    out = np.zeros((len(found), max_points, points.shape[1]), np.float32)
    for row, kept in zip(out, found.values(), strict=True):
        row[: len(kept)] = kept
    coords = np.array([cell[::-1] for cell in found]).reshape(-1, 3)
    return torch.tensor(out), torch.tensor(coords, dtype=torch.int32), torch.tensor([len(k) for k in found.values()])


def _cloud(number, seed=0, features=4):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(number, features, generator=generator) * torch.tensor([80.0, 90, 5, *[1] * (features - 3)])
    return points - torch.tensor([5.0, 45, 3.5, *[0] * (features - 3)])


@pytest.mark.parametrize('layer', [SECOND, PILLARS], ids=['second', 'pillars'])
@pytest.mark.parametrize('limits', [(5, 40000), (2, 300)])
def test_voxels_are_those_of_the_definition(layer, limits):
    points = _cloud(2000)
    # Clumps, so that voxels overflow, and points on cell borders.
    points[::3] = points[0] + 0.03 * points[::3] / 80
    points[1::7, :3] = (points[1::7, :3] / 0.4).round() * 0.4
    for ours, wanted in zip(
        voxels.hard_voxelize(points, *layer, *limits), _voxels_one_by_one(points, *layer, *limits), strict=True
    ):
        assert torch.equal(ours, wanted.to(ours.dtype))


@pytest.mark.parametrize('k', range(len(VOXEL_LAYERS)))
def test_voxels_are_bitwise_the_stored_ones_of_mmcv(k):
    stored, (size, span, *limits) = load('voxels'), VOXEL_LAYERS[k]
    found = voxels.hard_voxelize(stored['points'], size, span, *limits)
    for name, tensor in zip(('voxels', 'coords', 'count'), found, strict=True):
        assert torch.equal(tensor, stored[f'{name}_{k}'])
    assert torch.equal(voxels.dynamic_voxelize(stored['points'], size, span), stored[f'cells_{k}'])


@needs_ops
@pytest.mark.parametrize('limits', [(5, 40000), (32, 16000), (1, 100)])
@pytest.mark.parametrize('features', [3, 5])
def test_voxels_are_bitwise_those_of_mmcv(limits, features):
    points = _cloud(30000, 1, features)
    points[::2, :3] = points[::2, :3] * 0.02 + torch.tensor([10.0, 3, -1])
    # On the small grid both kinds of table are met.
    for size, span in (PILLARS, ([0.2, 0.2, 0.2], [0, -20, -3, 40, 20, 1])):
        theirs = (
            torch.zeros(limits[1], limits[0], features),
            torch.zeros(limits[1], 3).int(),
            torch.zeros(limits[1]).int(),
        )
        number = torch.zeros((), dtype=torch.long)
        _ext.hard_voxelize_forward(
            points, torch.tensor(size), torch.tensor(span).float(), *theirs, number,
            max_points=limits[0], max_voxels=limits[1], NDim=3, deterministic=True,
        )  # fmt: skip
        ours = voxels.hard_voxelize(points, size, span, *limits)
        assert all(torch.equal(a, b[:number]) for a, b in zip(ours, theirs, strict=True))
        cells = torch.zeros(len(points), 3).int()
        _ext.dynamic_voxelize_forward(points, torch.tensor(size), torch.tensor(span).float(), cells, NDim=3)
        assert torch.equal(voxels.dynamic_voxelize(points, size, span), cells)


def test_a_real_scan_gives_the_voxels_of_mmcv(samples_of):
    scan = samples_of('kitti') / 'training' / 'velodyne' / '000000.bin'
    points = torch.from_numpy(np.fromfile(scan, np.float32).reshape(-1, 4))
    ours = voxels.hard_voxelize(points, *SECOND, 5, 40000)
    # The sum of what mmcv 2.3.6 gives for this scan.
    assert hashlib.sha256(b''.join(part.numpy().tobytes() for part in ours)).hexdigest()[:16] == '8a91054a0da1615f'
    if ops_are_compiled():
        theirs = torch.zeros(40000, 5, 4), torch.zeros(40000, 3).int(), torch.zeros(40000).int()
        number = torch.zeros((), dtype=torch.long)
        size, span = (torch.tensor(v, dtype=torch.float32) for v in SECOND)
        _ext.hard_voxelize_forward(
            points, size, span, *theirs, number, max_points=5, max_voxels=40000, NDim=3, deterministic=True
        )
        assert all(torch.equal(a, b[:number]) for a, b in zip(ours, theirs, strict=True))


def test_points_outside_or_not_finite_are_in_no_voxel():
    points = torch.tensor([[1.0, 0, 0], [torch.nan, 0, 0], [0, torch.inf, 0], [70.0, 0, 0], [1, 0, 1], [-1e-4, 0, 0]])
    kept, coords, count = voxels.hard_voxelize(points, *PILLARS, 32, 100)
    assert kept[:, 0].tolist() == [[1.0, 0, 0]] and coords.tolist() == [[0, 248, 6]] and count.tolist() == [1]
    assert voxels.dynamic_voxelize(points, *PILLARS)[1:].unique().tolist() == [-1]


def test_an_empty_cloud_has_no_voxels():
    kept, coords, count = voxels.hard_voxelize(torch.zeros(0, 4), *PILLARS, 32, 100)
    assert kept.shape == (0, 32, 4) and coords.shape == (0, 3) and count.shape == (0,)
    pooled, cells = pool_by_voxel(torch.zeros(0, 4), torch.zeros(0, 3).int())
    assert pooled.shape == (0, 4) and cells.shape == (0, 3)


def test_points_may_lie_apart_in_memory():
    points = _cloud(500, features=6)
    part = points[:, [0, 1, 2, 5]]
    for ours, wanted in zip(
        voxels.hard_voxelize(points[:, :4], *PILLARS, 3, 99),
        voxels.hard_voxelize(points[:, :4].contiguous(), *PILLARS, 3, 99),
        strict=True,
    ):
        assert torch.equal(ours, wanted)
    assert not torch.equal(part, points[:, :4])


def test_a_wrong_layer_or_cloud_says_so():
    points = torch.zeros(3, 4)
    for voxel_size, point_range, clause in (
        ([0.1, 0.1], SECOND[1], '3 voxel sizes'),
        ([1.0, 1, 9], [0, 0, 0, 10, 10, 1], 'do not fill'),
    ):
        with pytest.raises(InputError, match=clause):
            voxels.hard_voxelize(points, voxel_size, point_range, 5, 5)
    with pytest.raises(InputError, match='float32'):
        voxels.hard_voxelize(points.double(), *SECOND, 5, 5)
    with pytest.raises(InputError, match='1 or more points'):
        voxels.hard_voxelize(points, *SECOND, 0, 5)
    with pytest.raises(InputError, match="did you mean 'mean'"):
        pool_by_voxel(points, points.int(), 'maen')
    with pytest.raises(InputError, match='too large'):
        voxels.unique_voxels(torch.full((1, 3), 2**31 - 2, dtype=torch.int32))


def _coords(number, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(0, 6, (number, columns), generator=generator, dtype=torch.int32)
    coords[::9, generator.initial_seed() % columns] = -1
    return coords


@pytest.mark.parametrize('columns', [3, 4])
@pytest.mark.parametrize('scale', [1, 5000], ids=['small', 'large'])
def test_distinct_rows_are_those_of_torch(columns, scale):
    coords = _coords(4000, columns)
    coords = torch.where(coords < 0, coords, coords * scale)
    wanted, row, count = torch.unique(
        coords.masked_fill((coords < 0).any(1, keepdim=True), -1), dim=0, return_inverse=True, return_counts=True
    )
    ours = voxels.unique_voxels(coords)
    assert torch.equal(ours[0], wanted[1:]) and torch.equal(ours[1], row.int() - 1)
    assert torch.equal(ours[2], count[1:].int())


@pytest.mark.parametrize('reduction', ['sum', 'mean', 'max'])
@pytest.mark.parametrize('number', [50, 3000])
def test_pooling_is_that_of_its_definition(reduction, number):
    features, coords = torch.randn(number, 5, generator=torch.Generator().manual_seed(2)), _coords(number, 3)
    pooled, cells = pool_by_voxel(features, coords, reduction)
    assert len(cells) > 3
    for value, cell in zip(pooled, cells, strict=True):
        part = features[(coords == cell).all(1)]
        wanted = part.amax(0) if reduction == 'max' else part.sum(0) if reduction == 'sum' else part.mean(0)
        assert torch.allclose(value, wanted, atol=1e-5)


@pytest.mark.parametrize('reduction', ['sum', 'mean', 'max'])
def test_pooling_has_the_gradient_of_its_definition(reduction):
    coords = _coords(60, 3)
    features = torch.randn(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: pool_by_voxel(f, coords, reduction)[0], features)


def test_the_first_of_equal_maxima_takes_the_gradient():
    features = torch.tensor([[1.0, 3], [2, 3], [2, 1], [9, 9]], requires_grad=True)
    coords = torch.tensor([[0, 0, 1]] * 3 + [[0, -1, 0]], dtype=torch.int32)
    pooled, _ = pool_by_voxel(features, coords, 'max')
    pooled.backward(torch.tensor([[5.0, 7]]))
    assert pooled.tolist() == [[2, 3]]
    assert features.grad.tolist() == [[0, 7], [5, 0], [0, 0], [0, 0]]


def test_bfloat16_features_are_summed_in_float32():
    features = torch.full((1000, 1), 0.25, dtype=torch.bfloat16, requires_grad=True)
    for reduction, wanted in (('sum', 250), ('mean', 0.25), ('max', 0.25)):
        pooled, _ = pool_by_voxel(features, torch.zeros(1000, 3).int(), reduction)
        assert pooled.dtype == torch.bfloat16 and pooled.item() == wanted
        (grad,) = torch.autograd.grad(pooled.sum(), features)
        assert grad.dtype == torch.bfloat16 and grad.shape == features.shape
