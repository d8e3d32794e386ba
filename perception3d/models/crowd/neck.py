"""Parts between an encoder of points and a crowd head: one map for each level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.registry import MODELS


@MODELS.register_module()
class SparseLevels(BaseModule):
    """Maps of three levels from mmdet3d's SparseEncoder with `return_middle_feats` and `block_type='basicblock'`.

    Takes the place of the backbone: voxels of the first two stages, at strides 2 and 4, become maps whose channels are
    those of all heights; the third map, at stride 8, is the encoder's own.
    """

    def forward(self, encoded: tuple[Tensor, Sequence[Any]]) -> tuple[Tensor, ...]:
        """Returns maps (B, C_l * D_l, H_l, W_l), finest first, of the encoder's map and its stages."""
        bird_view, stages = encoded
        return *(stage.dense().flatten(1, 2) for stage in stages[:2]), bird_view


@MODELS.register_module()
class LevelPyramid(BaseModule):
    """A feature pyramid (FPN, arXiv 1612.03144) without the 3x3 convolutions at its end.

    Every map of the backbone gets its channels by a 1x1 convolution with batch norm and ReLU; to each level the next
    coarser one is added, upsampled to the nearest. Each branch of the head begins with a 3x3 convolution of its own:
    those of the pyramid would be a tenth of the time of a frame on a CPU.

    Args:
        in_channels: channels of the maps of the backbone, finest first.
        out_channels: channels of every level.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        norm_cfg = dict(type='BN', eps=1e-3, momentum=0.01)
        self.laterals = nn.ModuleList(ConvModule(count, out_channels, 1, norm_cfg=norm_cfg) for count in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Returns maps (B, out_channels, H_l, W_l) of maps (B, C_l, H_l, W_l), finest first."""
        levels = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        for k in range(len(levels) - 2, -1, -1):
            levels[k] = levels[k] + F.interpolate(levels[k + 1], size=levels[k].shape[2:], mode='nearest')
        return tuple(levels)
