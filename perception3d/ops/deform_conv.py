"""Modulated deformable convolution (DCNv2, arXiv 1811.11168, equation 1) of CPU tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def modulated_deform_conv2d(
    features: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Convolution (N, O, Ho, Wo) whose taps are moved by `offset` and weighted by `mask`; differentiable.

    A tap reads the map bilinearly; pixels outside of the map are zero, and so is a tap that lies a pixel or more
    outside. The derivative by an offset of a tap on a pixel is the one towards larger coordinates, as in mmcv.

    Args:
        features: (N, C, H, W) float32 or float64.
        offset: (N, deform_groups * kh * kw * 2, Ho, Wo) in pixels, the vertical one first.
        mask: (N, deform_groups * kh * kw, Ho, Wo) weight of each tap.
        weight: (O, C / groups, kh, kw).
        bias: (O,) or None.
        stride, padding, dilation: vertical and horizontal, in pixels.
        groups: groups of input channels, each with its own part of the output channels.
        deform_groups: groups of input channels, each with its own offsets and mask.
    """
    out_channels, _, *kernel = weight.shape
    filters = weight.reshape(groups, out_channels // groups, -1)
    maps = []
    # One map after the other: the columns of a whole batch would take kh * kw times its memory.
    for one, shift, factor in zip(features, offset, mask, strict=True):
        places = _places(shift, kernel, stride, padding, dilation, deform_groups)
        columns = _columns(one, *places, factor.reshape(deform_groups, -1)).reshape(groups, filters.shape[2], -1)
        maps.append(torch.bmm(filters, columns).view(out_channels, *offset.shape[2:]))
    out = torch.stack(maps) if maps else features.new_zeros((0, out_channels, *offset.shape[2:]))
    return out if bias is None else out + bias.view(-1, 1, 1)


def _places(
    shift: Tensor, kernel: list[int], stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int],
    deform_groups: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Row and column in pixels, each (deform_groups, kh * kw * Ho * Wo), that each tap of each output pixel reads."""
    out_hw = shift.shape[1:]
    moved = shift.view(deform_groups, *kernel, 2, *out_hw)
    taps = [
        torch.arange(kernel[axis], device=shift.device)[:, None] * dilation[axis]
        + torch.arange(out_hw[axis], device=shift.device) * stride[axis]
        - padding[axis]
        for axis in (0, 1)
    ]
    rows = taps[0][:, None, :, None] + moved[:, :, :, 0]
    columns = taps[1][None, :, None, :] + moved[:, :, :, 1]
    return rows.reshape(deform_groups, -1), columns.reshape(deform_groups, -1)


def _columns(features: Tensor, rows: Tensor, columns: Tensor, factor: Tensor) -> Tensor:
    """What the taps read, times `factor` (G, taps): (G * channels of a group, taps) of one map (C, H, W)."""
    num_groups, num_taps = rows.shape
    channels, height, width = features.shape
    near = (rows > -1) & (columns > -1) & (rows < height) & (columns < width)
    # Places outside, or that are not numbers, read nothing: their corners are all outside.
    rows, columns = rows.where(near, -2), columns.where(near, -2)
    top, left = rows.detach().floor(), columns.detach().floor()
    down, right = rows - top, columns - left
    indices, weights = [], []
    for step_y, part_y in ((0, 1 - down), (1, down)):
        for step_x, part_x in ((0, 1 - right), (1, right)):
            y, x = top.long() + step_y, left.long() + step_x
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            indices.append((y * width + x).where(inside, 0))
            weights.append(part_y * part_x * factor * inside)
    # Group after group, a row of the table for each pixel: a tap is a weighted sum of four rows.
    start = torch.arange(num_groups, device=rows.device)[:, None, None] * (height * width)
    table = features.reshape(num_groups, -1, height * width).transpose(1, 2).reshape(num_groups * height * width, -1)
    read = F.embedding_bag(
        (torch.stack(indices, 2) + start).view(-1, 4), table, mode='sum',
        per_sample_weights=torch.stack(weights, 2).view(-1, 4),
    )  # fmt: skip
    return read.view(num_groups, num_taps, -1).transpose(1, 2).reshape(channels, num_taps)
