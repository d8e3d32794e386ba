"""Furthest point sampling against the plain method."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from perception3d.checks import InputError
from perception3d.ops.point_sampling import furthest_point_sample, furthest_point_sample_with_distances


def _plain(distance_to, number, samples):
    """Plain furthest point sampling; `distance_to(k)` gives the squared distances (N,) to point k.

    Among equally far points: the threads of mmcv's CUDA kernel each keep the first of theirs, then halve the field
    again and again, where the lower thread keeps its point unless the other's is further.
    """
    threads = 1
    while threads * 2 <= min(number, 1024):
        threads *= 2
    nearest, picks = np.full(number, 1e10, np.float32), [0]
    for _ in range(samples - 1):
        nearest = np.minimum(nearest, distance_to(picks[-1]))
        field = [max(range(t, number, threads), key=lambda k: nearest[k]) for t in range(threads)]
        while len(field) > 1:
            half = len(field) // 2
            field = [b if nearest[b] > nearest[a] else a for a, b in zip(field[:half], field[half:], strict=True)]
        picks.append(field[0])
    return picks


def _by_points(points):
    def distance_to(k):
        offset = points - points[k]
        return offset[:, 0] * offset[:, 0] + offset[:, 1] * offset[:, 1] + offset[:, 2] * offset[:, 2]

    return distance_to


@pytest.mark.parametrize('number', [1, 2, 63, 64, 65, 700, 1500])
def test_picks_are_those_of_the_plain_method(number):
    points = torch.rand(2, number, 3, generator=torch.Generator().manual_seed(number)) * torch.tensor([70.0, 80, 4])
    samples = min(number, 90)
    ours = furthest_point_sample(points, samples)
    for cloud, picks in zip(points.numpy(), ours, strict=True):
        assert picks.tolist() == _plain(_by_points(cloud), number, samples)


def test_equally_far_points_are_taken_as_the_cuda_kernel_takes_them():
    generator = np.random.default_rng(0)
    # A coarse lattice with many doubles; 1300 points, so that a thread has more than one.
    points = generator.integers(0, 5, (1300, 3)).astype(np.float32)
    ours = furthest_point_sample(torch.from_numpy(points)[None], 150)[0]
    assert ours.tolist() == _plain(_by_points(points), 1300, 150)


def test_when_all_points_are_taken_the_first_follows():
    points = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [1, 0, 0]]])
    assert furthest_point_sample(points, 5).tolist() == [[0, 1, 2, 0, 0]]


def test_far_away_points_count_as_a_hundred_kilometres():
    points = torch.tensor([[[0.0, 0, 0], [3e5, 0, 0], [2e5, 0, 0]]])
    # Equally far, then, and the first thread holds points 0 and 2.
    assert furthest_point_sample(points, 2).tolist() == [[0, 2]]


def test_a_matrix_of_distances_gives_the_same_picks():
    points = torch.rand(2, 200, 3, generator=torch.Generator().manual_seed(1))
    squared = (points[:, :, None] - points[:, None]).square()
    squared = (squared[..., 0] + squared[..., 1]) + squared[..., 2]
    assert torch.equal(furthest_point_sample_with_distances(squared, 60), furthest_point_sample(points, 60))
    coarse = (squared * 4).round()
    ours = furthest_point_sample_with_distances(coarse, 60)[1]
    assert ours.tolist() == _plain(lambda k: coarse[1, k].numpy(), 200, 60)


def test_bad_clouds_say_so():
    with pytest.raises(InputError, match='NaN or infinity'):
        furthest_point_sample(torch.tensor([[[0.0, torch.nan, 0]]]), 1)
    with pytest.raises(InputError, match=r'\(B, N, 3\)'):
        furthest_point_sample(torch.zeros(5, 3), 1)
    with pytest.raises(InputError, match=r'\(B, N, N\)'):
        furthest_point_sample_with_distances(torch.zeros(1, 4, 5), 1)
