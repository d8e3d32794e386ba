"""3x3 convolutions with a quarter of the multiplications, for float32 inference on a CPU.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308, section 4.3): 4 x 4 outputs need 36
multiplications a channel pair instead of 144. The three transforms are small matrix products, so that everything is
done by the matrix routine that torch already has. Results differ from a direct convolution by about 1e-5 of their size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception3d.checks import InputError

_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
# Tiles that are worked on together: their 36 x tiles x channels floats should stay in the processor's cache.
_BLOCK = 256


class Workspace:
    """Scratch memory that the convolutions of one model share; one model may not run in two threads at once."""

    def __init__(self) -> None:
        self._parts: dict[str, Tensor] = {}
        self._padded: dict[tuple[int, ...], Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Returns memory called `name`, not cleared."""
        size = torch.Size(shape).numel()
        part = self._parts.get(name)
        if part is None or part.numel() < size:
            part = self._parts[name] = torch.empty(size)
        return part[:size].view(shape)

    def pad(self, x: Tensor, tiles: tuple[int, int]) -> Tensor:
        """Returns x (B, C, H, W) as (B, 4 * tiles + 2, C) rows with a border of zeros, channels last."""
        batch, channels, height, width = x.shape
        key = (batch, channels, height, width)
        if key not in self._padded:
            # Only the inner part is ever written, so the border stays zero.
            self._padded[key] = torch.zeros(batch, 4 * tiles[0] + 2, 4 * tiles[1] + 2, channels)
        padded = self._padded[key]
        padded[:, 1 : height + 1, 1 : width + 1].copy_(x.permute(0, 2, 3, 1))
        return padded


class WinogradConv2d(nn.Module):
    """A drop-in for an `nn.Conv2d` of kernel 3, stride 1, padding 1: inference in float32 on the CPU.

    Takes (B, C, H, W) and returns (B, K, H, W) in channels-last memory. Takes the weights of `conv` as they are now.
    InputError if `conv` has another shape.
    """

    def __init__(self, conv: nn.Conv2d, workspace: Workspace | None = None) -> None:
        super().__init__()
        if not fits(conv):
            raise InputError(f'F(4x4, 3x3) needs kernel 3, stride 1, padding 1, one group; got {conv}')
        kernel = torch.tensor(_FILTER, dtype=torch.float64)
        weight = torch.einsum('ia,kcab,jb->ijck', kernel, conv.weight.detach().double(), kernel)
        self.workspace = workspace or Workspace()
        self.register_buffer('weight', weight.flatten(0, 1).float().contiguous())
        self.register_buffer('bias', None if conv.bias is None else conv.bias.detach().float().clone())
        self.register_buffer('to_tile', _kron(_INPUT), persistent=False)
        self.register_buffer('from_tile', _kron(_OUTPUT), persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Convolves x."""
        batch, _, height, width = x.shape
        tiles = -(-height // 4), -(-width // 4)
        padded = self.workspace.pad(x, tiles)
        out = x.new_empty(batch, 4 * tiles[0], 4 * tiles[1], self.weight.shape[2])
        step = max(1, _BLOCK // tiles[1])
        for b in range(batch):
            for row in range(0, tiles[0], step):
                count = min(step, tiles[0] - row)
                self._block(padded[b, 4 * row :], out[b, 4 * row : 4 * (row + count)], count, tiles[1])
        return out[:, :height, :width].permute(0, 3, 1, 2)

    def _block(self, padded: Tensor, out: Tensor, rows: int, columns: int) -> None:
        """Fills out (4 * rows, 4 * columns, K) from padded (>= 4 * rows + 2, 4 * columns + 2, C)."""
        _, inputs, outputs = self.weight.shape
        down, right, _ = padded.stride()
        windows = padded.as_strided((6, 6, rows, columns, inputs), (down, right, 4 * down, 4 * right, 1))
        count, take = rows * columns, self.workspace.take
        patches = take('patches', 6, 6, rows, columns, inputs).copy_(windows).view(36, -1)
        transformed = torch.mm(self.to_tile, patches, out=take('transformed', 36, count * inputs))
        products = take('products', 36, count, outputs)
        torch.bmm(transformed.view(36, count, inputs), self.weight, out=products)
        results = torch.mm(self.from_tile, products.view(36, -1), out=take('results', 16, count * outputs))
        target = out.view(rows, 4, columns, 4, outputs).permute(1, 3, 0, 2, 4)
        results = results.view(4, 4, rows, columns, outputs)
        if self.bias is None:
            target.copy_(results)
        else:
            torch.add(results, self.bias, out=target)


def fits(conv: nn.Module) -> bool:
    """Says whether `WinogradConv2d` computes what `conv` does."""
    return (
        isinstance(conv, nn.Conv2d)
        and (conv.kernel_size, conv.stride, conv.dilation, conv.groups) == ((3, 3), (1, 1), (1, 1), 1)
        and conv.padding == (1, 1)
        and conv.padding_mode == 'zeros'
    )


def use_winograd(module: nn.Module, min_channels: int = 64, workspace: Workspace | None = None) -> nn.Module:
    """Replaces, in place, the 3x3 convolutions of at least `min_channels` inputs and outputs; returns `module`.

    Below about 64 channels the transforms cost what the multiplications save.
    """
    workspace = workspace or Workspace()
    for name, child in list(module.named_children()):
        if fits(child) and min(child.in_channels, child.out_channels) >= min_channels:
            setattr(module, name, WinogradConv2d(child, workspace))
        else:
            use_winograd(child, min_channels, workspace)
    return module


def _kron(rows: tuple[tuple[float, ...], ...]) -> Tensor:
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix).float().contiguous()
