"""What brings a student's features to the channels of its teacher."""

from __future__ import annotations

from torch import Tensor, nn

from perception3d.registry import MODELS


@MODELS.register_module()
class ConvAdapter(nn.Module):
    """A 1x1 convolution, with batch norm where wished, on maps (B, C, H, W).

    Args:
        in_channels: channels of the student.
        out_channels: channels of the teacher.
        norm: follow it by batch norm.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=not norm)
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W)."""
        return self.norm(self.conv(x))
