"""Parts of networks on a range image and its points: convolutions of maps, layers of points, and the way between them.

Maps are (B, C, H, W) in channels-last memory, so that a map is its own list of pixels (B*H*W, C) without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.models.blocks.row_norms import FewRowsBatchNorm1d

# Of batch norms, as in the published code of FRNet and HARP-NeXt. Averages there move by 0.01 a step, these by 0.1:
# short trainings end before slow averages arrive.
_EPS = 1e-3

# Samples, rows, columns.
Size = tuple[int, int, int]
# Farther than any point.
FAR_M = 1e6


@dataclass(frozen=True)
class PixelsOfPoints:
    """Where the points of a batch lie in its range images, at one resolution.

    Attributes:
        size: samples, rows, columns.
        pixels: (P,) int64, the pixel of each point; pixels are counted over sample, row, column.
        nearest: (B, H, W) int64, the point that is nearest in each pixel, -1 where it has none.
        negative_distance: (B, 1, H, W) float32, minus the distance of that point, -`FAR_M` where there is none.
    """

    size: Size
    pixels: Tensor
    nearest: Tensor
    negative_distance: Tensor

    @staticmethod
    def of(pixels: Tensor, nearest: Tensor, distance: Tensor, size: Size) -> PixelsOfPoints:
        """Returns those of the full resolution.

        Args:
            pixels: (P,) int64.
            nearest: (B*H*W,) int64, -1 where there is no point.
            distance: (P,) metres.
            size: B, H, W.
        """
        negative = torch.where(nearest < 0, -FAR_M, -distance[nearest.clamp(min=0)])
        return PixelsOfPoints(size, pixels, nearest.view(size), negative.view(size[0], 1, *size[1:]))

    def coarser(self, stride: tuple[int, int]) -> PixelsOfPoints:
        """Returns those of a map that a convolution with this stride gives, whose pixels are whole blocks of these."""
        if stride == (1, 1):
            return self
        pixels, size = coarser_pixels(self.pixels, self.size, stride)
        negative, places = F.max_pool2d(self.negative_distance, stride, stride, ceil_mode=True, return_indices=True)
        # Places are counted within a sample.
        nearest = self.nearest.flatten(1).gather(1, places.flatten(1)).view(size)
        return PixelsOfPoints(size, pixels, nearest, negative)

    def image_of(self, features: Tensor) -> Tensor:
        """Returns (B, C, H, W): the features (P, C) of the nearest point of each pixel, 0 where there is none."""
        rows = features.index_select(0, self.nearest.flatten().clamp(min=0))
        # Zeros by selection, not by a product: a feature of the first point may be infinite under float16.
        rows = rows.masked_fill((self.nearest < 0).view(-1, 1), 0.0)
        return rows.view(*self.size, features.shape[1]).permute(0, 3, 1, 2)

    def occupied(self) -> Tensor:
        """Returns (B, 1, H, W) float32: 1 where a pixel has a point."""
        return (self.nearest >= 0).float().unsqueeze(1)


def coarser_pixels(pixels: Tensor, size: Size, stride: tuple[int, int]) -> tuple[Tensor, Size]:
    """Returns in which pixels of a map with this stride the `pixels` (P,) of a map of `size` lie, and its size."""
    # Numbers of pixels are not negative: ONNX divides them in one step, rounding down in many.
    batch, height, width = size
    coarse = (batch, -(-height // stride[0]), -(-width // stride[1]))
    above = torch.div(pixels, width, rounding_mode='trunc')
    sample = torch.div(above, height, rounding_mode='trunc')
    row = torch.div(above - sample * height, stride[0], rounding_mode='trunc')
    column = torch.div(pixels - above * width, stride[1], rounding_mode='trunc')
    return (sample * coarse[1] + row) * coarse[2] + column, coarse


def pixel_rows(image: Tensor) -> Tensor:
    """Returns a map (B, C, H, W) as its pixels (B*H*W, C)."""
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, hard swish; the map keeps its size."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_channels, _EPS), nn.Hardswish(inplace=True))


class EveryNth(nn.Module):
    """Every n-th row and column of a map, what a 1 x 1 convolution with this stride reads.

    Apart from the convolution, since oneDNN writes out of bounds in the gradient of one with 8 channels and a stride
    of (1, 2) in channels-last memory (torch 2.13 on a CPU with AVX-512).
    """

    def __init__(self, stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, C, H', W')."""
        return x[:, :, :: self.stride[0], :: self.stride[1]]


class ConvSENeXt(nn.Module):
    """Block of HARP-NeXt: a wide convolution of each channel alone, one across channels, squeeze and excitation.

    Convolution `kernel` x `kernel` of each channel, norm, hard swish; 1 x 1 convolution, norm; each channel times a
    gate of its mean over the map; plus the input, which a 1 x 1 convolution brings to the size; hard swish.

    Args:
        in_channels, out_channels: channels.
        kernel: odd size of the wide convolution.
        stride: down and across.
        reduction: how many times fewer channels the gate has inside.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: tuple[int, int] = (1, 1), reduction: int = 16
    ) -> None:
        super().__init__()
        wide = nn.Conv2d(in_channels, in_channels, kernel, stride, kernel // 2, groups=in_channels, bias=False)
        self.wide = nn.Sequential(wide, nn.BatchNorm2d(in_channels, _EPS), nn.Hardswish(inplace=True))
        across = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.across = nn.Sequential(across, nn.BatchNorm2d(out_channels, _EPS))
        # Few channels would all be zero behind the ReLU; the published block has 8.
        inner = max(out_channels // reduction, 8)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(out_channels, inner, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, out_channels, 1),
            nn.Hardsigmoid(),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != (1, 1) or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            self.shortcut = nn.Sequential(EveryNth(stride), conv, nn.BatchNorm2d(out_channels, _EPS))
        self.act = nn.Hardswish(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the map (B, out_channels, H', W')."""
        out = self.across(self.wide(x))
        out = out * self.gate(out) + self.shortcut(x)
        y: Tensor = self.act(out)
        return y


class AttentiveFusion(nn.Module):
    """Fuses a map with one of point features, and adds what an attention map lets through (FRNet, HARP-NeXt).

    Both papers compute the attention with two 3 x 3 convolutions, this with one.

    Args:
        channels: of the map and of the result.
        point_channels: of the map of point features.
    """

    def __init__(self, channels: int, point_channels: int) -> None:
        super().__init__()
        self.fuse = ConvNormAct(channels + point_channels, channels, 3)
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.attention = nn.Sequential(conv, nn.BatchNorm2d(channels, _EPS), nn.Sigmoid())

    def forward(self, x: Tensor, points: Tensor) -> Tensor:
        """Returns (B, channels, H, W) from a map and the image of the points, both of that size."""
        fused = self.fuse(torch.cat([x, points], 1))
        return fused * self.attention(fused) + x


class PointLayer(nn.Module):
    """A layer of points that also reads other rows at them: ReLU(norm(linear(points) + linear(rows)[which])).

    The same as one linear layer of both next to each other, with fewer rows to multiply and none to copy.

    Args:
        in_channels: of the points.
        row_channels: of each sort of rows.
        out_channels: of the result.
        residual: adds the points to the result; channels stay.
    """

    def __init__(
        self, in_channels: int, row_channels: Sequence[int], out_channels: int, residual: bool = False
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)
        self.of_rows = nn.ModuleList(nn.Linear(channels, out_channels, bias=False) for channels in row_channels)
        self.norm: nn.Module = FewRowsBatchNorm1d(out_channels, _EPS)
        self.residual = residual

    def forward(self, points: Tensor, *rows: tuple[Tensor, Tensor | None]) -> Tensor:
        """Returns (P, out_channels) of points (P, C).

        Args:
            points: their features.
            rows: for each of `row_channels` the rows (R, C) and which of them (P,) belongs to a point; None: one each,
                in order.
        """
        out = self.linear(points)
        for linear, (values, which) in zip(self.of_rows, rows, strict=True):
            read = linear(values)
            out = out + (read if which is None else read.index_select(0, which))
        out = F.relu(self.norm(out))
        return points + out if self.residual else out

    @torch.no_grad()
    def prepare_for_inference(self) -> None:
        """Folds the norm into the linear layers, see `models.inference.acceleration`."""
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm1d) or norm.running_mean is None or norm.running_var is None:
            return
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        self.linear.bias.sub_(norm.running_mean).mul_(scale).add_(norm.bias)
        for linear in (self.linear, *self.of_rows):
            linear.weight.mul_(scale[:, None])
        self.norm = nn.Identity()
