"""Neighbours and the gather and interpolation of their features, against brute force."""

from __future__ import annotations

import pytest
import torch
from pooled import group_points, three_interpolate

from perception3d.checks import InputError
from perception3d.ops import neighbors


def _clouds(number, centers, seed=0, lattice=False):
    generator = torch.Generator().manual_seed(seed)
    points, places = (torch.rand(2, n, 3, generator=generator) * 4 for n in (number, centers))
    if lattice:
        # Many equal distances, and distances equal to the radii.
        points, places = (points * 2).round() / 2, (places * 2).round() / 2
    places[:, ::5] = points[:, torch.arange(0, centers, 5) % number]
    return points, places


def _squared(points, centers):
    offset = centers[:, :, None] - points[:, None]
    return offset[..., 0] * offset[..., 0] + offset[..., 1] * offset[..., 1] + offset[..., 2] * offset[..., 2]


@pytest.mark.parametrize('lattice', [False, True])
@pytest.mark.parametrize(('inner', 'outer', 'samples'), [(0.0, 0.5, 8), (0.5, 1.0, 16), (0.0, 3.0, 5), (0.0, 9.0, 40)])
@pytest.mark.parametrize('number', [3, 64, 700])
def test_a_ball_holds_the_first_points_by_index(number, inner, outer, samples, lattice):
    points, centers = _clouds(number, 31, lattice=lattice)
    squared = _squared(points, centers)
    inside = ((squared >= inner**2) & (squared < outer**2)) | (squared == 0)
    ours = neighbors.ball_query(points, centers, inner, outer, samples)
    assert ours.shape == (2, 31, samples) and ours.dtype == torch.int32
    for row, hits in zip(ours.flatten(0, 1), inside.flatten(0, 1), strict=True):
        found = hits.nonzero().flatten().tolist()[:samples]
        assert row.tolist() == found + [found[0] if found else 0] * (samples - len(found))


@pytest.mark.parametrize('lattice', [False, True])
@pytest.mark.parametrize(('number', 'k'), [(700, 1), (700, 16), (64, 64), (130, 3)])
def test_the_nearest_come_sorted_and_equally_near_ones_by_index(number, k, lattice):
    points, centers = _clouds(number, 31, seed=1, lattice=lattice)
    indices, squared = neighbors.nearest_points(points, centers, k)
    wanted, order = _squared(points, centers).sort(stable=True)
    assert torch.equal(indices, order[..., :k].int()) and torch.equal(squared, wanted[..., :k])


def test_missing_neighbours_are_index_0_at_the_far_distance():
    points = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]])
    indices, squared = neighbors.nearest_points(points, points[:, 1:], 3, far=4.0)
    assert indices.tolist() == [[[1, 0, 0]]] and squared.tolist() == [[[0, 1, 4]]]
    indices, squared = neighbors.nearest_points(points, points[:, 1:] + 1, 2, far=2.5)
    assert indices.tolist() == [[[0, 0]]] and squared.tolist() == [[[2.5, 2.5]]]
    indices, squared = neighbors.nearest_points(points, points[:, 1:], 3, far=torch.inf)
    assert squared.tolist() == [[[0, 1, torch.inf]]] and indices.tolist() == [[[1, 0, 0]]]


def test_large_coordinates_and_single_points_are_found():
    points = torch.rand(1, 300, 3, generator=torch.Generator().manual_seed(0)) * 1e-2 + 1000
    indices, _ = neighbors.nearest_points(points, points, 1)
    assert torch.equal(_squared(points, points).argmin(2, keepdim=True).int(), indices)
    assert neighbors.nearest_points(points[:, :1], points[:, :2], 1)[0].tolist() == [[[0], [0]]]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16, torch.int8])
def test_grouping_is_indexing(dtype):
    generator = torch.Generator().manual_seed(0)
    features = (torch.randn(2, 5, 40, generator=generator) * 10).to(dtype)
    indices = torch.randint(0, 40, (2, 7, 3), generator=generator, dtype=torch.int32)
    grouped = group_points(features, indices)
    for b in range(2):
        assert torch.equal(grouped[b], features[b][:, indices[b].long()])


def test_grouping_has_the_gradient_of_indexing():
    features = torch.randn(2, 3, 9, dtype=torch.float64, requires_grad=True)
    indices = torch.randint(0, 9, (2, 4, 5), dtype=torch.int32)
    assert torch.autograd.gradcheck(lambda f: group_points(f, indices), features)


def test_interpolation_is_a_weighted_sum_and_has_its_gradient():
    features = torch.randn(2, 3, 9, dtype=torch.float64, requires_grad=True)
    indices = torch.randint(0, 9, (2, 6, 3), dtype=torch.int32)
    weights = torch.rand(2, 6, 3, dtype=torch.float64)
    wanted = (group_points(features, indices) * weights[:, None]).sum(-1)
    assert torch.allclose(three_interpolate(features, indices, weights), wanted)
    assert torch.autograd.gradcheck(lambda f: three_interpolate(f, indices, weights), features)
    half = three_interpolate(features.bfloat16(), indices, weights.bfloat16())
    assert half.dtype == torch.bfloat16 and torch.allclose(half.double(), wanted, atol=0.1)


def test_bfloat16_gradients_are_summed_in_float32():
    features = torch.zeros(1, 1, 2, dtype=torch.bfloat16, requires_grad=True)
    grouped = group_points(features, torch.zeros(1, 1000, dtype=torch.int32))
    grouped.backward(torch.full_like(grouped, 0.25))
    assert features.grad.tolist() == [[[250, 0]]]


def test_wrong_input_says_so():
    points = torch.zeros(1, 4, 3)
    with pytest.raises(InputError, match='4 points'):
        group_points(points.transpose(1, 2), torch.tensor([[4]], dtype=torch.int32))
    with pytest.raises(InputError, match='reach from -1'):
        three_interpolate(points.transpose(1, 2), torch.full((1, 1, 3), -1).int(), torch.ones(1, 1, 3))
    with pytest.raises(InputError, match=r'\(B, M, 3\)'):
        neighbors.ball_query(points, points[0], 0.0, 1.0, 4)
    with pytest.raises(InputError, match='NaN or infinity'):
        neighbors.nearest_points(points * torch.nan, points, 1)
    with pytest.raises(InputError, match='1 or more neighbours'):
        neighbors.nearest_points(points, points, 0)
