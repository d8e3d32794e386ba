"""ENet with four stages, as ENet-SAD (arXiv 1908.00821) has it for lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from perception3d.checks import unknown_name
from perception3d.models.lane.enet_blocks import Bottleneck, DownBottleneck, InitialBlock, UpBottleneck
from perception3d.models.lane.existence import ExistenceBranch
from perception3d.models.lane.image_size import checked_input
from perception3d.models.lane.outputs import LaneOutputs
from perception3d.registry import MODELS

SHARING = {'none': (0, 1, 2), 'e3_e4': (0, 1, 1), 'all': (0, 0, 0)}
"""Setting -> which of the modules of eight blocks the stages E2, E3 and E4 use."""


def eight_blocks(dropout: float) -> nn.Sequential:
    """Returns the eight blocks of 128 channels of one stage."""
    settings: list[dict[str, Any]] = [
        dict(), dict(dilation=2), dict(asymmetric=True), dict(dilation=4),
        dict(), dict(dilation=8), dict(asymmetric=True), dict(dilation=16),
    ]  # fmt: skip
    return nn.Sequential(*(Bottleneck(128, dropout, **setting) for setting in settings))


@MODELS.register_module()
class ENet(nn.Module):
    """ENet with the stages E1 to E4, a decoder and a branch for the existence of lanes.

    E1 has 64 channels at a quarter of the image, E2, E3 and E4 have 128 at an eighth. Its layers are those of the
    best-known port and of pieces of the released code, whose network is in none of the released files; the paper's
    text was not available. The paper states 0.98 M parameters, which fits two different modules of eight blocks: that
    E4 is the module of E3 once more (`share='e3_e4'`: 1.00 M at 288 x 800 and 0.93 M at 208 x 976 for four lanes) is
    our inference. The port uses one module for all three ('all', 0.85 M); 'none' has 1.14 M.

    Args:
        num_lanes: L.
        input_hw: height and width of the image, multiples of 8.
        share: which of E2, E3 and E4 share their eight blocks: 'e3_e4', 'all' or 'none'.
        exist: whether it has the existence branch; BDD100K has no number of lanes, and none.
        dropout: of channels, in E2 to E4 and in the decoder; E1 has a tenth of it.

    Raises:
        InputError: `input_hw` or `share` is invalid.
    """

    def __init__(
        self,
        num_lanes: int,
        input_hw: Sequence[int] = (208, 976),
        share: str = 'e3_e4',
        exist: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if share not in SHARING:
            raise unknown_name('share', share, SHARING)
        self.num_lanes, self.input_hw = num_lanes, checked_input(input_hw)
        self.initial = InitialBlock()
        self.down1 = DownBottleneck(16, 64, dropout / 10)
        self.blocks1 = nn.Sequential(*(Bottleneck(64, dropout / 10) for _ in range(4)))
        self.down2 = DownBottleneck(64, 128, dropout)
        self._used = SHARING[share]
        self.deep = nn.ModuleList(eight_blocks(dropout) for _ in range(len(set(self._used))))
        self.up1 = UpBottleneck(256, 64, dropout)
        self.up_blocks1 = nn.Sequential(*(Bottleneck(64, dropout, act=nn.ReLU) for _ in range(2)))
        self.up2 = UpBottleneck(64, 16, dropout)
        self.up_blocks2 = Bottleneck(16, dropout, act=nn.ReLU)
        self.classifier = nn.ConvTranspose2d(16, 1 + num_lanes, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.exist = ExistenceBranch(128, input_hw, num_lanes) if exist else None

    def forward(self, images: Tensor) -> LaneOutputs:
        """Returns stages E1 to E4 and the logits of images (B, 3, H, W)."""
        x, corners1 = self.down1(self.initial(images))
        e1 = self.blocks1(x)
        x, corners2 = self.down2(e1)
        e2 = self.deep[self._used[0]](x)
        e3 = self.deep[self._used[1]](e2)
        e4 = self.deep[self._used[2]](e3)
        y = self.up_blocks1(self.up1(torch.cat([e3, e4], 1), corners2))
        y = self.up_blocks2(self.up2(y, corners1))
        return LaneOutputs((e1, e2, e3, e4), self.classifier(y), None if self.exist is None else self.exist(e4))
