"""Adapters: bring the features of a student to the number of channels of its teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.registry import MODELS


@MODELS.register_module()
class ConvAdapter(nn.Module):
    """A 1x1 convolution on maps (B, C, H, W), optionally followed by batch norm.

    Args:
        in_channels: channels of the student.
        out_channels: channels of the teacher.
        norm: add batch norm after the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=not norm)
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W)."""
        if not x.is_contiguous(memory_format=torch.channels_last):
            return self.norm(self.conv(x))
        # In channels-last memory it is a plain matrix product, several times as fast on one CPU thread.
        rows = F.linear(x.permute(0, 2, 3, 1), self.conv.weight.flatten(1), self.conv.bias)
        return self.norm(rows.permute(0, 3, 1, 2))


@MODELS.register_module()
class LinearAdapter(nn.Linear):
    """A linear layer on rows (N, C), such as the features of points or voxels.

    Args:
        in_channels: channels of the student.
        out_channels: channels of the teacher.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
