"""Deformable sampling and the two attentions against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from tiny_rig import intrinsics, ring_cam_from_lidar
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.bev_transformer.deformable import sample_maps
from perception3d.models.bev_transformer.pillars import PillarGrid, PillarViews, view_pillars
from perception3d.models.bev_transformer.spatial_attention import PillarDeformableAttention, SpatialCrossAttention
from perception3d.models.bev_transformer.temporal_attention import Memory, TemporalSelfAttention


def bilinear(image: Tensor, x: float, y: float) -> Tensor:
    """Reads image (C, H, W) at fractions (x, y) of its size; outside is zero."""
    channels, height, width = image.shape
    u, v = x * width - 0.5, y * height - 0.5
    total = torch.zeros(channels)
    for row in (int(np.floor(v)), int(np.floor(v)) + 1):
        for column in (int(np.floor(u)), int(np.floor(u)) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(v - row)) * (1 - abs(u - column)) * image[:, row, column]
    return total


@pytest.mark.parametrize('channels', [8, 5])
def test_sampling_and_its_gradients_equal_mmcv(channels: int) -> None:
    torch.manual_seed(0)
    shapes = [(5, 7), (3, 4)]
    value = torch.randn(3, 47, 2, channels, requires_grad=True)
    # Some places lie outside of the maps.
    places = (torch.rand(3, 11, 2, 2, 4, 2) * 1.6 - 0.3).requires_grad_()
    weights = torch.rand(3, 11, 2, 2, 4, requires_grad=True)
    ours = sample_maps(value, shapes, places, weights)
    theirs = multi_scale_deformable_attn_pytorch(value, shapes, places, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    upstream = torch.randn_like(ours)
    gradients = [torch.autograd.grad(out, (value, places, weights), upstream) for out in (ours, theirs)]
    for got, expected in zip(*gradients):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_several_threads_compute_the_same() -> None:
    torch.manual_seed(0)
    shapes = [(5, 7), (3, 4)]
    parts = [torch.randn(3, 47, 2, 8), torch.rand(3, 11, 2, 2, 4, 2), torch.rand(3, 11, 2, 2, 4)]
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            inputs = [part.clone().requires_grad_() for part in parts]
            found = sample_maps(inputs[0], shapes, *inputs[1:])
            results.append([found, *torch.autograd.grad(found.square().sum(), inputs)])
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(1)
    assert all(torch.equal(one, two) for one, two in zip(*results))


def test_places_that_are_not_numbers_read_nothing() -> None:
    value = torch.ones(1, 6, 1, 2)
    places = torch.tensor([float('nan'), float('inf'), -1e30, 0.5]).view(1, 4, 1, 1, 1, 1).repeat(1, 1, 1, 1, 1, 2)
    found = sample_maps(value, [(2, 3)], places, torch.ones(1, 4, 1, 1, 1))
    assert found[0, :, 0].tolist() == [0, 0, 0, 1]


def transparent(attention: PillarDeformableAttention) -> PillarDeformableAttention:
    """Makes an attention return plain means of what lies at the reference points."""
    torch.nn.init.eye_(attention.value_proj.weight)
    torch.nn.init.zeros_(attention.sampling_offsets.bias)
    return attention


def test_one_head_and_one_point_is_a_bilinear_sample() -> None:
    torch.manual_seed(0)
    attention = transparent(PillarDeformableAttention(4, num_heads=1, num_levels=1, num_points=1))
    image = torch.randn(4, 5, 6)
    points = torch.tensor([[0.3, 0.4], [0.01, 0.99], [0.77, 0.5], [-0.5, 0.5]])
    found = attention(torch.randn(1, 4, 4), image.flatten(1).T[None], [(5, 6)], points[None, :, None])
    expected = torch.stack([bilinear(image, x, y) for x, y in points.tolist()])
    torch.testing.assert_close(found[0], expected)
    assert (found[0, 3] == 0).all()
    # An offset of one is one pixel of the level.
    with torch.no_grad():
        attention.sampling_offsets.bias.copy_(torch.tensor([1.0, -2.0]))
    found = attention(torch.randn(1, 4, 4), image.flatten(1).T[None], [(5, 6)], points[None, :, None])
    expected = torch.stack([bilinear(image, x + 1 / 6, y - 2 / 5) for x, y in points.tolist()])
    torch.testing.assert_close(found[0], expected)


def test_sampling_points_take_turns_with_the_points_of_a_pillar() -> None:
    """Point p reads around reference point p % D; the weights say how much."""
    attention = transparent(PillarDeformableAttention(2, num_heads=1, num_levels=1, num_points=4))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    with torch.no_grad():
        attention.attention_weights.bias.copy_(weights.log())
    image = torch.randn(2, 5, 6)
    low, high = (0.3, 0.6), (0.7, 0.2)
    points = torch.tensor([[[low, high]]])
    found = attention(torch.zeros(1, 1, 2), image.flatten(1).T[None], [(5, 6)], points)[0, 0]
    torch.testing.assert_close(found, 0.4 * bilinear(image, *low) + 0.6 * bilinear(image, *high))


def test_pillars_take_the_mean_of_their_cameras() -> None:
    torch.manual_seed(0)
    block = SpatialCrossAttention(3, num_heads=1, num_levels=1, num_points=1, dropout=0.0)
    transparent(block.deformable_attention)
    torch.nn.init.eye_(block.output_proj.weight)
    images = torch.randn(2, 2, 3, 4, 4)
    index = torch.tensor([[[0, 2], [2, 0]], [[1, 0], [0, 0]]])
    valid = torch.tensor([[[True, True], [True, False]], [[True, True], [False, False]]])
    points = torch.rand(2, 2, 2, 1, 2)
    cameras = torch.tensor([[1, 0, 2], [1, 1, 0]])
    query = torch.randn(2, 3, 3)
    value = images.flatten(3).transpose(2, 3).flatten(0, 1)
    found = block(query, value, [(4, 4)], PillarViews(index, valid, points, cameras)) - query
    see = [[bilinear(images[b, n], *points[b, n, k, 0].tolist()) for n in range(2) for k in range(2)] for b in range(2)]
    nothing = torch.zeros(3)
    expected = [[see[0][0], nothing, (see[0][1] + see[0][2]) / 2], [see[1][1], see[1][0], nothing]]
    torch.testing.assert_close(found, torch.stack([torch.stack(row) for row in expected]))


@pytest.mark.parametrize('place, axis', [((9.0, 0.0), 0), ((-9.0, 0.0), 0), ((0.0, 9.0), 1), ((0.0, -9.0), 1)])
def test_an_object_next_to_the_vehicle_lights_up_its_side_of_the_map(place: tuple[float, float], axis: int) -> None:
    """Right of the car is a high x index (axis 2), in front of it is a high y index (axis 3)."""
    cameras, hw = 4, (64, 64)
    grid = PillarGrid((-16, -16, 16, 16), (16, 16), (-1.0, 0.0, 1.0))
    matrices = intrinsics(cameras, hw) @ ring_cam_from_lidar(cameras)
    images = torch.zeros(cameras, 1, *hw)
    for n, matrix in enumerate(matrices):
        u, v, depth, _ = matrix @ [*place, 0.0, 1]
        if depth > 0 and 3 < u / depth < 61:
            images[n, 0, int(v / depth) - 3 : int(v / depth) + 4, int(u / depth) - 3 : int(u / depth) + 4] = 1
    block = SpatialCrossAttention(1, num_heads=1, num_levels=1, num_points=3, dropout=0.0)
    transparent(block.deformable_attention)
    torch.nn.init.ones_(block.output_proj.weight)
    views = view_pillars(grid, matrices[None], hw, hw, 'cpu')
    found = block(torch.zeros(1, 256, 1), images.flatten(2).transpose(1, 2), [hw], views)
    bev = grid.to_map(found)[0, 0].detach()
    lit = (bev > 0.2 * bev.max()).nonzero().float().mean(0)
    along, across = lit[axis], lit[1 - axis]
    assert abs(float(across) - 7.5) < 1
    assert (float(along) - 7.5) * place[axis] > 0 and abs(float(along) - 7.5) > 2


def slow_self_attention(block: TemporalSelfAttention, query, position, shape, past, present, shift) -> Tensor:
    """Temporal self-attention of one sample, query by query."""
    nx, ny = shape
    heads, points, channels = block.num_heads, block.num_points, query.shape[1]
    width = channels // heads
    maps = [block.value_proj(part).T.view(channels, ny, nx) for part in (past, present)]
    rows = []
    for q in range(nx * ny):
        joint = torch.cat([past[q], query[q] + position[q]])
        offsets = block.sampling_offsets(joint).view(heads, 2, points, 2)
        weights = block.attention_weights(joint).view(heads, 2, points).softmax(-1)
        x, y = (q % nx + 0.5) / nx, (q // nx + 0.5) / ny
        total = torch.zeros(2, channels)
        for queue, move in enumerate((shift, (0.0, 0.0))):
            for h in range(heads):
                own = maps[queue][h * width : (h + 1) * width]
                for p in range(points):
                    u, v = x + move[0] + offsets[h, queue, p, 0] / nx, y + move[1] + offsets[h, queue, p, 1] / ny
                    read = bilinear(own, float(u), float(v))
                    total[queue, h * width : (h + 1) * width] += weights[h, queue, p] * read
        rows.append(query[q] + block.output_proj(total.mean(0)))
    return torch.stack(rows)


@torch.no_grad()
def test_temporal_attention_equals_a_loop_over_queries_and_maps() -> None:
    torch.manual_seed(0)
    grid = PillarGrid((-4, -4, 4, 4), (5, 4), (0.0,))
    block = TemporalSelfAttention(6, num_heads=2, num_points=3, dropout=0.0)
    torch.nn.init.normal_(block.sampling_offsets.weight, std=0.3)
    torch.nn.init.normal_(block.attention_weights.weight, std=0.3)
    query, initial, past = torch.randn(3, 2, 20, 6)
    position, centers, shape = torch.randn(20, 6), grid.centers('cpu'), grid.shape
    shift = torch.tensor([[0.2, -0.1], [0.3, 0.4]])
    memory = Memory(past, shift, torch.tensor([True, False]))
    found = block(query, position, centers, shape, memory, initial)
    move = tuple(shift[0].tolist())
    known = slow_self_attention(block, query[0], position, shape, past[0], initial[0], move)
    alone = slow_self_attention(block, query[1], position, shape, query[1], query[1], (0.0, 0.0))
    torch.testing.assert_close(found, torch.stack([known, alone]), rtol=1e-4, atol=1e-5)
    without = block(query, position, centers, shape)
    torch.testing.assert_close(without[1], found[1])
    assert not torch.allclose(without[0], found[0], atol=1e-3)


def test_half_precision_of_other_layers_does_not_change_the_sampling() -> None:
    torch.manual_seed(0)
    block = SpatialCrossAttention(8, num_heads=2, num_levels=1, num_points=2, dropout=0.0)
    views = view_pillars(
        PillarGrid((-8, -8, 8, 8), (6, 6), (0.0,)),
        (intrinsics(3, (32, 32)) @ ring_cam_from_lidar(3))[None],
        (32, 32),
        (32, 32),
        'cpu',
    )
    query, value = torch.randn(1, 36, 8), torch.randn(3, 64, 8)
    plain = block(query, value, [(8, 8)], views)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = block(query, value, [(8, 8)], views)
    assert (half.float() - plain).norm() / plain.norm() < 0.02


def test_numbers_that_do_not_divide_are_named() -> None:
    with pytest.raises(InputError, match='30 channels do not split into 4 heads'):
        PillarDeformableAttention(30, num_heads=4)
    with pytest.raises(InputError, match='30 channels do not split into 4 heads'):
        TemporalSelfAttention(30, num_heads=4)
    attention = PillarDeformableAttention(4, num_heads=1, num_levels=1, num_points=3)
    with pytest.raises(InputError, match='3 sampling points .* 2 points'):
        attention(torch.zeros(1, 1, 4), torch.zeros(1, 4, 4), [(2, 2)], torch.zeros(1, 1, 2, 2))
