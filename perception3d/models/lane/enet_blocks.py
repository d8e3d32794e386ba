"""The blocks of ENet (arXiv 1606.02147), with pooling and unpooling that ONNX has operators for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def pool_with_corners(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the maxima (B, C, H/2, W/2) of windows of 2 x 2 pixels, and in which corner 0..3 each lies, int64.

    Corners are counted by rows. Of equal values the first one counts, as in torch's `max_pool2d`.
    """
    height, width = x.shape[-2:]
    windows = F.pixel_unshuffle(x, 2).view(-1, x.shape[1], 4, height // 2, width // 2)
    values, corners = windows.max(2)
    return values, corners


def unpool(x: Tensor, corners: Tensor) -> Tensor:
    """Returns (B, C, 2H, 2W) with the values of x (B, C, H, W) in the corners of `pool_with_corners`, zeros elsewhere.

    Equal to torch's `max_unpool2d`, for which ONNX exporters have no operator (pytorch #25088).
    """
    order = torch.arange(4, device=x.device).view(1, 1, 4, 1, 1)
    return F.pixel_shuffle(torch.where(corners[:, :, None] == order, x[:, :, None], 0).flatten(1, 2), 2)


def conv_norm(in_channels: int, out_channels: int, kernel: Any, **settings: Any) -> list[nn.Module]:
    """Returns a convolution without bias, `settings` being others of its arguments, and its batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, bias=False, **settings)
    return [conv, nn.BatchNorm2d(out_channels)]


class InitialBlock(nn.Module):
    """A convolution of stride 2 and the maxima of 2 x 2 pixels, concatenated: 3 to 16 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 13, 3, stride=2, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm = nn.BatchNorm2d(16)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, 16, H/2, W/2)."""
        y: Tensor = self.act(self.norm(torch.cat([self.conv(x), self.pool(x)], 1)))
        return y


class Bottleneck(nn.Module):
    """A residual block: 1 x 1 to a quarter of the channels, the main convolution, 1 x 1 back, dropout of channels.

    Args:
        channels: of the map.
        dropout: probability.
        dilation: of the main convolution of 3 x 3.
        asymmetric: the main convolution is one of 5 x 1 and one of 1 x 5 instead.
        act: class of the activations: PReLU in the encoder, ReLU in the decoder.
    """

    def __init__(
        self,
        channels: int,
        dropout: float,
        dilation: int = 1,
        asymmetric: bool = False,
        act: type[nn.Module] = nn.PReLU,
    ) -> None:
        super().__init__()
        inner = channels // 4
        if asymmetric:
            main = [
                *conv_norm(inner, inner, (5, 1), padding=(2, 0)),
                act(),
                *conv_norm(inner, inner, (1, 5), padding=(0, 2)),
            ]
        else:
            main = conv_norm(inner, inner, 3, padding=dilation, dilation=dilation)
        self.branch = nn.Sequential(
            *conv_norm(channels, inner, 1), act(), *main, act(), *conv_norm(inner, channels, 1), act()
        )
        self.dropout = nn.Dropout2d(dropout)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map of the shape of x."""
        y: Tensor = self.act(x + self.dropout(self.branch(x)))
        return y


class DownBottleneck(nn.Module):
    """The block that halves rows and columns; it returns in which corners the maxima of its input lie.

    Args:
        in_channels, out_channels: of the maps, the latter not fewer.
        dropout: probability.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inner = in_channels // 4
        self.branch = nn.Sequential(
            *conv_norm(in_channels, inner, 2, stride=2), nn.PReLU(), *conv_norm(inner, inner, 3, padding=1), nn.PReLU(),
            *conv_norm(inner, out_channels, 1), nn.PReLU(),
        )  # fmt: skip
        self.dropout = nn.Dropout2d(dropout)
        self.act = nn.PReLU()
        self.added = out_channels - in_channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (B, out, H/2, W/2), and corners (B, in, H/2, W/2) as of `pool_with_corners`."""
        values, corners = pool_with_corners(x)
        # Channels that the input lacks are zeros.
        values = F.pad(values, (0, 0, 0, 0, 0, self.added))
        return self.act(values + self.dropout(self.branch(x))), corners


class UpBottleneck(nn.Module):
    """The block that doubles rows and columns, with the corners of the block that halved them.

    Args:
        in_channels, out_channels: of the maps.
        dropout: probability.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inner = in_channels // 4
        self.main = nn.Sequential(*conv_norm(in_channels, out_channels, 1))
        self.branch = nn.Sequential(
            *conv_norm(in_channels, inner, 1), nn.ReLU(),
            nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            *conv_norm(inner, out_channels, 1),
        )  # fmt: skip
        self.dropout = nn.Dropout2d(dropout)
        self.act = nn.ReLU()

    def forward(self, x: Tensor, corners: Tensor) -> Tensor:
        """Returns (B, out, 2H, 2W); corners (B, out, H, W)."""
        y: Tensor = self.act(unpool(self.main(x), corners) + self.dropout(self.branch(x)))
        return y
