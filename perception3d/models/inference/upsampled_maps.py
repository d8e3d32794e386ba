"""The neck of LiDAR detectors for float32 inference on a CPU: maps of several sizes, upsampled and joined in one pass.

A transposed convolution whose kernel is its stride is a matrix product, whose rows are blocks of pixels. Bias, ReLU and
the move to their place in the joined map are one pass over each product, while it is in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.geometry.threads import share_threads_with_torch
from perception3d.models.inference.winograd import Workspace

# Floats of a product that are made before they are moved.
_BLOCK = 1 << 20


class UpsampledMaps(nn.Module):
    """Replaces mmdet3d's SECONDFPN with folded norms: upsamples every map, ReLU, joins the channels.

    Args:
        deblocks: one for each map, of which `fits` holds.
        workspace: scratch memory within a call.
    """

    def __init__(self, deblocks: Sequence[nn.Sequential], workspace: Workspace) -> None:
        super().__init__()
        self.workspace, self.joined = workspace, Workspace()
        self.scales: list[int] = []
        for i, deblock in enumerate(deblocks):
            conv = deblock[0]
            assert isinstance(conv, nn.ConvTranspose2d), 'as `fits` says'
            self.scales.append(conv.stride[0])
            bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().float().clone()
            # Inputs x (rows of the block, columns, outputs).
            weight = conv.weight.detach().float().permute(0, 2, 3, 1).flatten(1).contiguous()
            self.register_buffer(f'weight{i}', weight)
            self.register_buffer(f'bias{i}', bias)

    @staticmethod
    def fits(deblocks: Sequence[nn.Module]) -> bool:
        """Returns whether each is a transposed convolution whose kernel is its stride, with a ReLU (norm folded)."""
        return all(isinstance(deblock, nn.Sequential) and _is_upsampling(deblock) for deblock in deblocks)

    @torch.no_grad()
    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Takes maps (B, C, H, W), returns one map (B, K, H', W') in a list, in channels-last memory.

        InputError if the upsampled maps differ in size.
        """
        sizes = {(len(x), x.shape[2] * s, x.shape[3] * s) for x, s in zip(maps, self.scales, strict=True)}
        if len(sizes) > 1:
            raise InputError(f'upsampled maps have the sizes (B, H, W) {sorted(sizes)}: they cannot be joined')
        parts = [(getattr(self, f'weight{i}'), getattr(self, f'bias{i}')) for i in range(len(maps))]
        out = self.joined.take('map', *sizes.pop(), sum(len(bias) for _, bias in parts))
        share_threads_with_torch()
        offset = 0
        with torch.autocast('cpu', enabled=False):
            for x, scale, (weight, bias) in zip(maps, self.scales, parts, strict=True):
                rows = x.float().permute(0, 2, 3, 1).reshape(-1, x.shape[1])
                step = max(1, _BLOCK // weight.shape[1])
                for first in range(0, len(rows), step):
                    block = rows[first : first + step]
                    product = self.workspace.take('products', len(block), weight.shape[1])
                    torch.mm(block, weight, out=product)
                    _place(product.numpy(), first, scale, bias.numpy(), offset, out.numpy())
                offset += len(bias)
        return [out.permute(0, 3, 1, 2)]


def _is_upsampling(deblock: nn.Sequential) -> bool:
    parts = [part for part in deblock if not isinstance(part, nn.Identity)]
    if len(parts) != 2 or not isinstance(parts[0], nn.ConvTranspose2d) or not isinstance(parts[1], nn.ReLU):
        return False
    conv = parts[0]
    square = conv.kernel_size == conv.stride and conv.stride[0] == conv.stride[1]
    plain = (conv.padding, conv.output_padding, conv.dilation, conv.groups) == ((0, 0), (0, 0), (1, 1), 1)
    return square and plain


@njit(cache=True, parallel=True)
def _place(product, first, scale, bias, offset, out):
    """Moves rows (P, scale * scale * K) of pixels from number `first` on to channels `offset` of out (B, H, W, C)."""
    height, width, count = out.shape[1] // scale, out.shape[2] // scale, bias.size
    for p in prange(len(product)):
        pixel = first + p
        n, i, j = pixel // (height * width), pixel // width % height * scale, pixel % width * scale
        for k in range(scale * scale):
            source = product[p, k * count : (k + 1) * count]
            target = out[n, i + k // scale, j + k % scale, offset : offset + count]
            for c in range(count):
                target[c] = max(source[c] + bias[c], np.float32(0))
