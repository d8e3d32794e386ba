"""Modulated deformable convolution against a plain convolution, sums by hand and numerical derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from perception3d.ops.deform_conv import modulated_deform_conv2d

# Groups, groups of offsets, stride, padding, dilation.
LAYERS = [(1, 1, (1, 1), (1, 1), (1, 1)), (2, 4, (2, 1), (2, 0), (1, 2)), (4, 2, (1, 2), (0, 1), (2, 1))]


def inputs(layer: tuple, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Features (2, 8, 5, 6), offsets of up to 2 pixels, masks, weights of a 3 x 2 kernel, and a bias."""
    groups, deform_groups, stride, padding, dilation = layer
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 8 // groups, 3, 2, generator=generator, dtype=dtype)
    features = torch.randn(2, 8, 5, 6, generator=generator, dtype=dtype)
    height, width = torch.conv2d(features, weight, None, stride, padding, dilation, groups).shape[2:]
    offset = torch.rand(2, deform_groups * 12, height, width, generator=generator, dtype=dtype) * 4 - 2
    mask = torch.rand(2, deform_groups * 6, height, width, generator=generator, dtype=dtype)
    return [features, offset, mask, weight, torch.randn(4, generator=generator, dtype=dtype)]


def options(layer: tuple) -> dict:
    return dict(zip(('groups', 'deform_groups', 'stride', 'padding', 'dilation'), layer, strict=True))


def pixel(image: Tensor, row: float, column: float) -> float:
    """A bilinear sample of an image (H, W) whose surroundings are zero."""
    total = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * float(image[i, j])
    return total


@pytest.mark.parametrize('layer', LAYERS)
def test_taps_that_do_not_move_are_those_of_a_convolution(layer: tuple) -> None:
    features, offset, mask, weight, bias = inputs(layer)
    groups, _, stride, padding, dilation = layer
    wanted = torch.conv2d(features, weight, bias, stride, padding, dilation, groups)
    found = modulated_deform_conv2d(features, offset * 0, mask * 0 + 1, weight, bias, **options(layer))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    without = modulated_deform_conv2d(features, offset * 0, mask * 0 + 0.5, weight, None, **options(layer))
    torch.testing.assert_close(without, (wanted - bias.view(-1, 1, 1)) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize('layer', LAYERS)
def test_a_moved_tap_reads_between_the_pixels(layer: tuple) -> None:
    features, offset, mask, weight, bias = inputs(layer)
    groups, deform_groups, stride, padding, dilation = layer
    found = modulated_deform_conv2d(features, offset, mask, weight, bias, **options(layer))
    moves, factors = offset.unflatten(1, (deform_groups, 3, 2, 2)), mask.unflatten(1, (deform_groups, 3, 2))
    for n, out, y, x in ((0, 0, 0, 0), (1, 3, found.shape[2] - 1, found.shape[3] - 1), (1, 1, 0, 1)):
        total = float(bias[out])
        for k in range(8 // groups):
            channel = out // (4 // groups) * (8 // groups) + k
            g = channel // (8 // deform_groups)
            for i in range(3):
                for j in range(2):
                    move = moves[n, g, i, j, :, y, x]
                    row = y * stride[0] - padding[0] + i * dilation[0] + float(move[0])
                    column = x * stride[1] - padding[1] + j * dilation[1] + float(move[1])
                    value = pixel(features[n, channel], row, column) * float(factors[n, g, i, j, y, x])
                    total += float(weight[out, k, i, j]) * value
        assert float(found[n, out, y, x]) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize('layer', LAYERS)
def test_derivatives_are_the_numerical_ones(layer: tuple) -> None:
    tensors = [tensor.requires_grad_() for tensor in inputs(layer)]
    assert torch.autograd.gradcheck(
        lambda *parts: modulated_deform_conv2d(*parts, **options(layer)), tensors, fast_mode=True
    )


def test_taps_outside_and_places_that_are_not_numbers_read_nothing() -> None:
    features, weight = torch.ones(1, 1, 1, 4), torch.ones(1, 1, 1, 1)
    offset = torch.zeros(1, 2, 1, 4)
    offset[0, 0, 0, :3] = torch.tensor([-1.0, torch.nan, torch.inf])
    offset.requires_grad_()
    found = modulated_deform_conv2d(features, offset, torch.ones(1, 1, 1, 4), weight)
    assert found.flatten().tolist() == [0, 0, 0, 1]
    (grad,) = torch.autograd.grad(found.sum(), offset)
    # On the last pixel a tap leaves the map to the right and downwards; a whole pixel outside there is nothing to gain.
    assert grad.flatten().tolist() == [0, 0, 0, -1, 0, 0, 0, -1]


def test_a_batch_of_none_has_an_output_of_none() -> None:
    features, offset, mask, weight, bias = inputs(LAYERS[0])
    found = modulated_deform_conv2d(features[:0], offset[:0], mask[:0], weight, bias, padding=(1, 1))
    assert found.shape == (0, 4, 5, 7)
