"""The branch of a lane network that says which lanes exist."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from perception3d.checks import unknown_name


class ExistenceHead(nn.Sequential):
    """From pooled class maps to the logits (B, L) of existence: flatten, a hidden layer of 128, L outputs.

    Args:
        channels: of the pooled map.
        input_hw: of the image; the map has a sixteenth of its rows and columns, rounded down.
        num_lanes: L.
    """

    def __init__(self, channels: int, input_hw: Sequence[int], num_lanes: int) -> None:
        height, width = input_hw
        super().__init__(
            nn.Flatten(),
            nn.Linear(channels * (height // 16) * (width // 16), 128),
            nn.ReLU(),
            nn.Linear(128, num_lanes),
        )


class ExistenceBranch(nn.Module):
    """P1 of the released ENet and ERFNet for lanes: from a map at an eighth of the image to logits (B, L).

    A 3 x 3 convolution of dilation 4 to 32 channels, batch norm, ReLU, dropout, a 1 x 1 convolution to 5 channels,
    which stay 5 for other numbers of lanes, softmax over them, pooling by 2, two linear layers.

    Args:
        in_channels: of the map.
        input_hw: of the image.
        num_lanes: L.
        pool: 'avg' (ENet of pytorch-auto-drive) or 'max' (the released ERFNet).
    """

    def __init__(self, in_channels: int, input_hw: Sequence[int], num_lanes: int, pool: str = 'avg') -> None:
        super().__init__()
        if pool not in ('avg', 'max'):
            raise unknown_name('pool', pool, ('avg', 'max'))
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 32, 3, padding=4, dilation=4, bias=False),
            nn.BatchNorm2d(32, eps=1e-3),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(32, 5, 1),
        )
        self.pool = nn.AvgPool2d(2) if pool == 'avg' else nn.MaxPool2d(2)
        self.head = ExistenceHead(5, input_hw, num_lanes)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (B, L) of a map (B, C, H/8, W/8)."""
        logits: Tensor = self.head(self.pool(torch.softmax(self.features(x), 1)))
        return logits
