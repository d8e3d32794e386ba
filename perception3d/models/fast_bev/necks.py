"""The two necks that Fast-BEV adds: one joins the pyramid of each image, one encodes the BEV map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from perception3d.checks import InputError
from perception3d.registry import MODELS


@MODELS.register_module()
class PyramidFuse(nn.Module):
    """Joins every chosen pyramid level with all coarser ones (Fast-BEV, section 3.2).

    A level's map is concatenated with the coarser maps, each resized to it (bilinear, corners not aligned), and a plain
    3x3 convolution with bias brings the stack to `out_channels`.

    Args:
        levels: the levels that are lifted, 0 the finest.
        num_levels: levels of the pyramid.
        in_channels: channels of every pyramid level.
        out_channels: channels of the result.
    """

    def __init__(
        self,
        levels: Sequence[int] = (0,),
        num_levels: int = 4,
        in_channels: int = 64,
        out_channels: int = 64,
    ) -> None:
        super().__init__()
        if not levels or max(levels) >= num_levels:
            raise InputError(f'levels {list(levels)} do not exist in a pyramid of {num_levels}')
        self.levels, self.out_channels = tuple(levels), out_channels
        self.convs = nn.ModuleDict(
            {str(i): nn.Conv2d(in_channels * (num_levels - i), out_channels, 3, padding=1) for i in self.levels}
        )

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Returns one map (M, out_channels, H_i, W_i) for each chosen level of `pyramid` [(M, C, H_i, W_i)]."""
        fused = []
        for level in self.levels:
            size = pyramid[level].shape[2:]
            coarser = [F.interpolate(p, size, mode='bilinear', align_corners=False) for p in pyramid[level + 1 :]]
            fused.append(self.convs[str(level)](torch.cat([pyramid[level], *coarser], dim=1)))
        return fused


class ResBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around an identity: ReLU(x + BN(conv(ReLU(BN(conv(x))))))."""

    def __init__(self, channels: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv0 = ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg)
        self.conv1 = ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, X, Y) to the same shape."""
        return F.relu(x + self.conv1(self.conv0(x)), inplace=True)


@MODELS.register_module()
class M2BEVNeck(nn.Module):
    """Encodes the lifted BEV maps (the neck of M2BEV, arXiv 2204.05088, with Fast-BEV's depth).

    A 1x1 convolution joins height, frames and levels; a residual block; a 3x3 convolution of stride 2; then
    `num_layers` times a residual block and a 3x3 convolution.

    Maps of several grids are resized to one. Bilinear resizing and average pooling work on each channel alone with
    weights that sum to one, so they commute with the 1x1 convolution: each map is convolved on its own grid first, and
    only `in_channels` are resized instead of all (64 * 4 * 6 of each level in the published multi-scale model).

    Args:
        in_channels: channels of the first residual block.
        out_channels: channels of the result.
        num_layers: residual blocks after the stride.
        fuse_channels: channels of all lifted maps together; 0 leaves the 1x1 convolution out.
        stride: of the reducing convolution.
        scaler: how maps of several grids meet: 'upsample' to the first, or 'pool' to the last.
        norm_cfg: batch norm of the blocks.
        with_cp: trade time for memory by checkpointing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int = 2,
        fuse_channels: int = 0,
        stride: int = 2,
        scaler: str = 'upsample',
        norm_cfg: dict | None = None,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if scaler not in ('upsample', 'pool'):
            raise InputError(f"scaler {scaler!r} is neither 'upsample' nor 'pool'")
        norm_cfg = norm_cfg or dict(type='BN')
        self.scaler = scaler
        self.with_cp = with_cp
        self.fuse = nn.Conv2d(fuse_channels, in_channels, 1) if fuse_channels else None
        blocks = [ResBlock(in_channels, norm_cfg)]
        blocks.append(ConvModule(in_channels, out_channels, 3, stride=stride, padding=1, norm_cfg=norm_cfg))
        for _ in range(num_layers):
            blocks.append(ResBlock(out_channels, norm_cfg))
            blocks.append(ConvModule(out_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg))
        self.model = nn.Sequential(*blocks)
        self.lifted_channels = fuse_channels or in_channels

    def forward(self, volumes: Sequence[Tensor]) -> Tensor:
        """Returns (B, out_channels, ceil(X/stride), ceil(Y/stride)) from the maps [(B, C_i, X_i, Y_i)] of the grids."""
        x = self._join(list(volumes))
        if self.with_cp and torch.is_grad_enabled() and x.requires_grad:
            return checkpoint(self.model, x, use_reentrant=False)
        return self.model(x)

    def _join(self, volumes: list[Tensor]) -> Tensor:
        if len(volumes) == 1:
            return volumes[0] if self.fuse is None else self.fuse(volumes[0])
        size = volumes[0 if self.scaler == 'upsample' else -1].shape[2:]
        if self.fuse is None:
            return torch.cat([self._resize(volume, size) for volume in volumes], dim=1)
        weights = self.fuse.weight.split([volume.shape[1] for volume in volumes], dim=1)
        joined = self._resize(F.conv2d(volumes[0], weights[0], self.fuse.bias), size)
        for volume, weight in zip(volumes[1:], weights[1:], strict=True):
            joined = joined + self._resize(F.conv2d(volume, weight), size)
        return joined

    def _resize(self, volume: Tensor, size: torch.Size) -> Tensor:
        if volume.shape[2:] == size:
            return volume
        if self.scaler == 'pool':
            return F.adaptive_avg_pool2d(volume, (size[0], size[1]))
        return F.interpolate(volume, size, mode='bilinear', align_corners=False)
