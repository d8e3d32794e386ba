"""3x3 convolutions with a quarter of the multiplications, for float32 inference on a CPU.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308, section 4.3): 4 x 4 outputs need 36
multiplications per pair of channels instead of 144. numba transforms tiles of the map to 36 matrices and the products
back; the products are one call of torch.bmm. Results differ from a direct convolution by
about 1e-5 of their size. Tiles that need no work may be left out (`active_convolutions`).
"""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.geometry.threads import PerThread, allocate_to_keep, share_threads_with_torch

_FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
# Channels that are worked on together: 36 rows of them fit into the first cache, and a fixed length can be vectorised.
_LANES = 16
# Tiles that one thread takes at a time.
_CHUNK = 16
# Tiles between two products: their 36 matrices should stay in the processor's cache.
_BLOCK = 2048
_FAST = {'contract', 'reassoc', 'nsz'}


class Workspace(PerThread):
    """Scratch memory that the convolutions of one model share; every thread that runs the model has its own."""

    def __init__(self) -> None:
        self._parts: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Returns memory called `name`, not cleared."""
        size = torch.Size(shape).numel()
        part = self._parts.get(name)
        if part is None or part.numel() < size:
            part = self._parts[name] = allocate_to_keep(torch.empty, size)
        return part[:size].view(shape)


class WinogradConv2d(nn.Module):
    """A drop-in for an `nn.Conv2d` of kernel 3, stride 1, padding 1: inference in float32 on the CPU.

    Takes (B, C, H, W) and returns (B, K, H, W) in channels-last memory. Copies the weights of `conv`.
    InputError if `conv` has another shape.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, workspace: Workspace | None = None) -> None:
        super().__init__()
        if not fits(conv):
            raise InputError(f'F(4x4, 3x3) needs kernel 3, stride 1, padding 1, one group; got {conv}')
        kernel = torch.tensor(_FILTER, dtype=torch.float64)
        weight = torch.einsum('ia,kcab,jb->ijck', kernel, conv.weight.detach().double(), kernel)
        self.workspace = workspace or Workspace()
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().float().clone()
        self.register_buffer('weight', weight.flatten(0, 1).float().contiguous())
        self.register_buffer('bias', bias)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Convolves x."""
        rows = x.float().permute(0, 2, 3, 1).contiguous()
        batch, height, width, _ = rows.shape
        out = rows.new_empty(batch, height, width, self.weight.shape[2])
        with torch.autocast('cpu', enabled=False):
            self.fill(rows, np.arange(batch * tile_count(height) * tile_count(width)), out)
        return out.permute(0, 3, 1, 2)

    def fill(self, x: Tensor, tiles: np.ndarray, out: Tensor, relu: bool = False) -> None:
        """Convolves x (B, H, W, C) in these tiles alone and writes them to out (B, H, W, K), both contiguous.

        Tile (n * th + i) * tw + j is the 4 x 4 pixels from (4 i, 4 j) of map n; th and tw are `tile_count` of H and W.
        """
        _, inputs, outputs = self.weight.shape
        share_threads_with_torch()
        bias = self.bias.numpy()
        for start in range(0, len(tiles), _BLOCK):
            block = tiles[start : start + _BLOCK]
            patches = self.workspace.take('patches', 36, len(block), inputs)
            products = self.workspace.take('products', 36, len(block), outputs)
            _to_tiles(x.numpy(), block, patches.numpy())
            torch.bmm(patches, self.weight, out=products)
            _from_tiles(products.numpy(), block, bias, relu, out.numpy())


def fits(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Returns whether a module is a convolution that `WinogradConv2d` can replace."""
    if type(conv) is not nn.Conv2d or conv.groups != 1 or conv.padding_mode != 'zeros':
        return False
    return (conv.kernel_size, conv.stride, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))


def tile_count(size: int) -> int:
    """Returns how many tiles of 4 cover `size` pixels."""
    return -(-size // 4)


def fewest_channels() -> int:
    """Returns from how many inputs and outputs on F(4x4, 3x3) beats torch's convolution of a channels-last map here.

    With fewer channels the transforms, which wait for memory, cost what the multiplications save. With AVX-512 torch
    multiplies about twice as fast as with AVX2.
    """
    return 256 if torch.backends.cpu.get_cpu_capability() == 'AVX512' else 64


def use_winograd(module: nn.Module, min_channels: int = 64, workspace: Workspace | None = None) -> nn.Module:
    """Replaces, in place, the 3x3 convolutions of at least `min_channels` inputs and outputs; returns `module`.

    64 suits networks whose maps are not channels-last; otherwise take `fewest_channels`.
    """
    workspace = workspace or Workspace()
    for name, child in list(module.named_children()):
        if fits(child) and min(child.in_channels, child.out_channels) >= min_channels:
            setattr(module, name, WinogradConv2d(child, workspace))
        else:
            use_winograd(child, min_channels, workspace)
    return module


@njit(cache=True, fastmath=_FAST, inline='always')
def _forward_line(b: np.ndarray, start: int, step: int) -> None:
    """Transforms six rows of lanes, `step` apart, in place: B^T of the paper, with common parts shared."""
    for c in range(start, start + _LANES):
        d0, d1, d2 = b[c], b[c + step], b[c + 2 * step]
        d3, d4, d5 = b[c + 3 * step], b[c + 4 * step], b[c + 5 * step]
        even, odd = d4 - np.float32(4) * d2, d3 - np.float32(4) * d1
        far, wide = d4 - d2, np.float32(2) * (d3 - d1)
        b[c] = np.float32(4) * d0 - np.float32(5) * d2 + d4
        b[c + step] = even + odd
        b[c + 2 * step] = even - odd
        b[c + 3 * step] = far + wide
        b[c + 4 * step] = far - wide
        b[c + 5 * step] = np.float32(4) * d1 - np.float32(5) * d3 + d5


@njit(cache=True, fastmath=_FAST, inline='always')
def _backward_line(b: np.ndarray, start: int, step: int) -> None:
    """Transforms six rows of lanes, `step` apart, to four, in place: A^T of the paper."""
    for c in range(start, start + _LANES):
        m0, m1, m2 = b[c], b[c + step], b[c + 2 * step]
        m3, m4, m5 = b[c + 3 * step], b[c + 4 * step], b[c + 5 * step]
        near, diff12, far, wide = m1 + m2, m1 - m2, m3 + m4, m3 - m4
        b[c] = m0 + near + far
        b[c + step] = diff12 + np.float32(2) * wide
        b[c + 2 * step] = near + np.float32(4) * far
        b[c + 3 * step] = diff12 + np.float32(8) * wide + m5


@njit(cache=True, inline='always')
def _copy(source: np.ndarray, target: np.ndarray, start: int) -> None:
    """Copies a row of at most _LANES floats to target[start:]; a whole row has a fixed length and is vectorised."""
    if source.size == _LANES:
        for c in range(_LANES):
            target[start + c] = source[c]
    else:
        for c in range(source.size):
            target[start + c] = source[c]


@njit(cache=True, inline='always')
def _tile_origin(tile: int, height: int, width: int) -> tuple[int, int, int]:
    """Map, top row and left column of a tile."""
    down, right = (height + 3) // 4, (width + 3) // 4
    return tile // (down * right), 4 * (tile // right % down), 4 * (tile % right)


@njit(cache=True, parallel=True, fastmath=_FAST)
def _to_tiles(x, tiles, out):
    _, height, width, channels = x.shape
    for chunk in prange((tiles.size + _CHUNK - 1) // _CHUNK):
        b = np.zeros(36 * _LANES, np.float32)
        for t in range(chunk * _CHUNK, min(tiles.size, chunk * _CHUNK + _CHUNK)):
            n, top, left = _tile_origin(tiles[t], height, width)
            for first in range(0, channels, _LANES):
                last = min(first + _LANES, channels)
                for k in range(36):
                    row, column = top - 1 + k // 6, left - 1 + k % 6
                    if 0 <= row < height and 0 <= column < width:
                        _copy(x[n, row, column, first:last], b, k * _LANES)
                    else:
                        for c in range(k * _LANES, (k + 1) * _LANES):
                            b[c] = 0
                for k in range(6):
                    _forward_line(b, 6 * k * _LANES, _LANES)
                for k in range(6):
                    _forward_line(b, k * _LANES, 6 * _LANES)
                for k in range(36):
                    target = out[k, t, first:last]
                    for c in range(target.size):
                        target[c] = b[k * _LANES + c]


@njit(cache=True, parallel=True, fastmath=_FAST)
def _from_tiles(products, tiles, bias, relu, out):
    _, height, width, channels = out.shape
    for chunk in prange((tiles.size + _CHUNK - 1) // _CHUNK):
        b = np.zeros(36 * _LANES, np.float32)
        for t in range(chunk * _CHUNK, min(tiles.size, chunk * _CHUNK + _CHUNK)):
            n, top, left = _tile_origin(tiles[t], height, width)
            for first in range(0, channels, _LANES):
                last = min(first + _LANES, channels)
                for k in range(36):
                    _copy(products[k, t, first:last], b, k * _LANES)
                for k in range(6):
                    _backward_line(b, k * _LANES, 6 * _LANES)
                for k in range(4):
                    _backward_line(b, 6 * k * _LANES, _LANES)
                bias_part = bias[first:last]
                for i in range(min(4, height - top)):
                    for j in range(min(4, width - left)):
                        target, start = out[n, top + i, left + j, first:last], (6 * i + j) * _LANES
                        for c in range(target.size):
                            value = b[start + c] + bias_part[c]
                            target[c] = max(value, np.float32(0)) if relu else value
