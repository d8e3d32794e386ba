"""Convolutions of a bird's-eye-view map that is mostly empty, for float32 inference on a CPU.

A LiDAR scan fills a few per cent of a detector's map. Where nothing is near, a convolution gives the same values
everywhere: the background. A stack of convolutions that carries the background and the mask of the pixels that differ
from it computes those pixels alone, and gives the result of the dense stack up to rounding. Per layer the mask grows by
a pixel, also from the border inwards, since the zeros around a map are not background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.geometry.threads import share_threads_with_torch
from perception3d.models.inference.winograd import WinogradConv2d, Workspace, fewest_channels, fits, tile_count

# From here on gathering costs more than the pixels that it saves.
_DENSE = 0.6


@dataclass
class ActiveMap:
    """A map (B, H, W, C), where it is not background (B, H, W) uint8, and the background (C)."""

    rows: Tensor
    mask: np.ndarray
    background: Tensor

    @classmethod
    def of(cls, x: Tensor) -> ActiveMap:
        """Takes a map (B, C, H, W) whose background is zero."""
        rows = x.float().permute(0, 2, 3, 1).contiguous()
        share_threads_with_torch()
        return cls(rows, _occupied(rows.numpy()), rows.new_zeros(rows.shape[3]))

    def dense(self) -> Tensor:
        """Returns the map as (B, C, H, W) in channels-last memory."""
        return self.rows.permute(0, 3, 1, 2)


class ActiveConv2d(nn.Module):
    """An `nn.Conv2d` of kernel 3, padding 1, stride 1 or 2, followed by a ReLU, on an ActiveMap.

    The output lies in `maps`, at `slot`; `workspace` is scratch memory within a call.
    """

    weight: Tensor
    bias: Tensor
    columns: Tensor

    def __init__(self, conv: nn.Conv2d, workspace: Workspace, maps: Workspace, slot: str) -> None:
        super().__init__()
        self.maps, self.slot = maps, slot
        self.stride, self.wide = conv.stride[0], min(conv.in_channels, conv.out_channels) >= fewest_channels()
        self.workspace = workspace
        weight = conv.weight.detach().float()
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().float().clone()
        self.register_buffer('weight', weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer('bias', bias)
        self.winograd = WinogradConv2d(conv, workspace) if fits(conv) else None
        # (3, 3, C) pixels of a window x outputs.
        self.register_buffer(
            'columns', None if self.winograd else weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
        )

    @torch.no_grad()
    def forward(self, x: ActiveMap) -> ActiveMap:
        """Convolves where the output is not background."""
        background = torch.relu(self.weight.sum((2, 3)) @ x.background + self.bias)
        # Zeros around the map change what lies at its border, unless the background is zero too.
        mask = _spread(x.mask, self.stride, bool((x.background != 0).any()))
        batch, height, width = mask.shape
        if self.winograd is not None:
            every = batch * tile_count(height) * tile_count(width)
            tiles = _tiles(mask)
            if self.wide or len(tiles) < _DENSE * every:
                out = self._empty(mask, background, len(tiles) < every)
                self.winograd.fill(x.rows, tiles, out, relu=True)
                return ActiveMap(out, mask, background)
        else:
            pixels = np.flatnonzero(mask)
            if len(pixels) < _DENSE * mask.size:
                out = self._empty(mask, background, True)
                self._gather(x.rows, pixels, out)
                return ActiveMap(out, mask, background)
        dense = F.conv2d(x.dense(), self.weight, self.bias, self.stride, 1).relu_()
        return ActiveMap(dense.permute(0, 2, 3, 1), mask, background)

    def _empty(self, mask: np.ndarray, background: Tensor, filled: bool) -> Tensor:
        out = self.maps.take(self.slot, *mask.shape, len(background))
        return out.copy_(background.expand_as(out)) if filled else out

    def _gather(self, x: Tensor, pixels: np.ndarray, out: Tensor) -> None:
        """Fills pixels (indices into the (B, H, W) of `out`) by one matrix product over their windows."""
        windows = self.workspace.take('windows', len(pixels), len(self.columns))
        _windows(x.numpy(), pixels, self.stride, out.shape[1], out.shape[2], windows.numpy())
        values = torch.addmm(self.bias, windows, self.columns).relu_()
        out.view(-1, out.shape[3])[torch.from_numpy(pixels)] = values


class ActiveBackbone(nn.Module):
    """A backbone of blocks one after another, whose outputs are the maps behind each block (mmdet3d's SECOND)."""

    def __init__(self, blocks: Sequence[nn.Sequential], workspace: Workspace) -> None:
        super().__init__()
        self.blocks, maps = nn.ModuleList(), Workspace()
        for b, block in enumerate(blocks):
            convs = [part for part in block if isinstance(part, nn.Conv2d)]
            # A convolution reads one map and writes the other; the last map of a block stays.
            slots = [f'block {b}, map {i % 2}' for i in range(len(convs))]
            layers = [ActiveConv2d(conv, workspace, maps, slot) for conv, slot in zip(convs, slots, strict=True)]
            self.blocks.append(nn.ModuleList(layers))

    @staticmethod
    def fits(blocks: Sequence[nn.Module]) -> bool:
        """Returns whether all blocks consist of 3x3 convolutions, each with its ReLU (norms folded)."""
        return all(isinstance(block, nn.Sequential) and _is_stack(block) for block in blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Takes (B, C, H, W), returns (B, K, H', W') of every block."""
        active, outs = ActiveMap.of(x), []
        with torch.autocast('cpu', enabled=False):
            for block in self.blocks:
                for conv in block.children():
                    active = conv(active)
                outs.append(active.dense())
        return tuple(outs)


def _is_stack(block: nn.Sequential) -> bool:
    parts = [part for part in block if not isinstance(part, nn.Identity)]
    convs, relus = parts[::2], parts[1::2]
    return len(convs) == len(relus) and all(isinstance(part, nn.ReLU) for part in relus) and all(map(_is_plain, convs))


def _is_plain(conv: nn.Module) -> bool:
    if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.padding_mode != 'zeros':
        return False
    shape = conv.kernel_size, conv.padding, conv.dilation
    return shape == ((3, 3), (1, 1), (1, 1)) and conv.stride in ((1, 1), (2, 2))


@njit(cache=True, parallel=True)
def _occupied(x):
    batch, height, width, channels = x.shape
    mask = np.zeros((batch, height, width), np.uint8)
    for line in prange(batch * height):
        n, i = line // height, line % height
        for j in range(width):
            row = x[n, i, j]
            for c in range(channels):
                if row[c] != 0:
                    mask[n, i, j] = 1
                    break
    return mask


@njit(cache=True)
def _spread(mask, stride, from_outside):
    """Which outputs of a 3x3 convolution with padding 1 see something that is not background."""
    batch, height, width = mask.shape
    out = np.zeros((batch, (height - 1) // stride + 1, (width - 1) // stride + 1), np.uint8)
    for n in range(batch):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                top, left = i * stride - 1, j * stride - 1
                if from_outside and (top < 0 or left < 0 or top + 3 > height or left + 3 > width):
                    out[n, i, j] = 1
                    continue
                active = 0
                for row in range(max(top, 0), min(top + 3, height)):
                    for column in range(max(left, 0), min(left + 3, width)):
                        active |= mask[n, row, column]
                out[n, i, j] = active
    return out


def _tiles(mask: np.ndarray) -> np.ndarray:
    """Returns the tiles of `WinogradConv2d.fill` with a pixel of the mask (B, H, W)."""
    batch, height, width = mask.shape
    down, right = tile_count(height), tile_count(width)
    padded = np.zeros((batch, 4 * down, 4 * right), np.uint8)
    padded[:, :height, :width] = mask
    return np.flatnonzero(padded.reshape(batch, down, 4, right, 4).any((2, 4)))


@njit(cache=True, parallel=True)
def _windows(x, pixels, stride, out_height, out_width, windows):
    """Writes the 3x3 window (3, 3, C) of each output pixel as a row; zeros outside the map."""
    _, height, width, channels = x.shape
    for p in prange(pixels.size):
        n = pixels[p] // (out_height * out_width)
        top = pixels[p] // out_width % out_height * stride - 1
        left = pixels[p] % out_width * stride - 1
        for k in range(9):
            row, column = top + k // 3, left + k % 3
            target = windows[p, k * channels : (k + 1) * channels]
            if 0 <= row < height and 0 <= column < width:
                target[:] = x[n, row, column]
            else:
                target[:] = 0
