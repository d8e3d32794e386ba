"""ERFNet with the two heads of lanes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from perception3d.models.lane.existence import ExistenceBranch
from perception3d.models.lane.image_size import checked_input
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.registry import MODELS

# That of every batch norm in the released code.
_EPS = 1e-3


class NonBottleneck1D(nn.Module):
    """Four convolutions of 3 x 1 and 1 x 3 pixels, the last two dilated, with a residual connection.

    Args:
        channels: of the map.
        dropout: probability, of whole channels.
        dilation: of the second pair.
    """

    def __init__(self, channels: int, dropout: float, dilation: int = 1) -> None:
        super().__init__()
        far = dilation
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, (3, 1), padding=(1, 0)), nn.ReLU(),
            nn.Conv2d(channels, channels, (1, 3), padding=(0, 1)), nn.BatchNorm2d(channels, eps=_EPS), nn.ReLU(),
            nn.Conv2d(channels, channels, (3, 1), padding=(far, 0), dilation=(far, 1)), nn.ReLU(),
            nn.Conv2d(channels, channels, (1, 3), padding=(0, far), dilation=(1, far)),
            nn.BatchNorm2d(channels, eps=_EPS), nn.Dropout2d(dropout),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map of the shape of x."""
        return torch.relu(x + self.branch(x))


class Downsampler(nn.Module):
    """A convolution of stride 2 and the maxima of 2 x 2 pixels, concatenated."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, stride=2, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.norm = nn.BatchNorm2d(out_channels, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, out_channels, H/2, W/2)."""
        return torch.relu(self.norm(torch.cat([self.conv(x), self.pool(x)], 1)))


def upsampler(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Returns a transposed convolution that doubles rows and columns, its norm and ReLU."""
    conv = nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
    return [conv, nn.BatchNorm2d(out_channels, eps=_EPS), nn.ReLU()]


@MODELS.register_module()
class ERFNet(nn.Module):
    """ERFNet (IEEE T-ITS 2018) with the existence branch of the released lane code (there without SAD).

    The stages, by the mapping of our fact sheet, since the authors of "ERFNet-SAD" never stated theirs: stage 1 ends
    the 64 channels at a quarter of the image, stage 2 is the downsampler to 128 channels at an eighth, stages 3 and 4
    end the first and the second four dilated blocks. For four lanes it has 2.68 M parameters at 288 x 800 and 2.61 M
    at 208 x 976; the release states 2.49 M. Existence logits leave without a sigmoid, which the released code applies
    twice.

    Args:
        num_lanes: L.
        input_hw: height and width of the image, multiples of 8.
        dropout: of the encoder; the decoder has none.
        exist: whether it has the existence branch.

    Raises:
        InputError: `input_hw` is invalid.
    """

    def __init__(
        self, num_lanes: int, input_hw: Sequence[int] = (208, 976), dropout: float = 0.1, exist: bool = True
    ) -> None:
        super().__init__()
        self.num_lanes, self.input_hw = num_lanes, checked_input(input_hw)
        self.quarter = nn.Sequential(
            Downsampler(3, 16), Downsampler(16, 64), *(NonBottleneck1D(64, dropout) for _ in range(5))
        )
        self.down = Downsampler(64, 128)
        self.dilated = nn.ModuleList(
            nn.Sequential(*(NonBottleneck1D(128, dropout, dilation) for dilation in (2, 4, 8, 16))) for _ in range(2)
        )
        self.decoder = nn.Sequential(
            *upsampler(128, 64), NonBottleneck1D(64, 0), NonBottleneck1D(64, 0),
            *upsampler(64, 16), NonBottleneck1D(16, 0), NonBottleneck1D(16, 0),
            nn.ConvTranspose2d(16, 1 + num_lanes, 2, stride=2),
        )  # fmt: skip
        self.exist = ExistenceBranch(128, input_hw, num_lanes, pool='max') if exist else None

    def forward(self, images: Tensor) -> LaneOutputs:
        """Returns the stages and the logits of images (B, 3, H, W)."""
        first = self.quarter(images)
        second = self.down(first)
        third = self.dilated[0](second)
        fourth = self.dilated[1](third)
        exist = None if self.exist is None else self.exist(fourth)
        return LaneOutputs((first, second, third, fourth), self.decoder(fourth), exist)
