"""MinkUNet18 (arXiv 1904.08755, as SPVNAS has it): a U-Net of 3x3x3 sparse convolutions on small cubes, on spconv."""

from __future__ import annotations

from dataclasses import replace

import torch
from spconv.pytorch import SparseConv3d, SparseConvTensor, SparseInverseConv3d, SubMConv3d
from spconv.pytorch.conv import SparseConvolution
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.blocks.row_norms import FewRowsBatchNorm1d
from perception3d.models.lidar_seg.segmentor import SegOutputs
from perception3d.models.lidar_seg.sparse import Kernel, sparse_precision, sparse_tensor, subm_key
from perception3d.models.lidar_seg.voxels import VoxelBatch
from perception3d.registry import MODELS

_FULL: Kernel = (3, 3, 3)
_CHANNELS = (32, 32, 64, 128, 256, 256, 128, 96, 96)
_LEVELS = 4


class ConvNorm(nn.Module):
    """A sparse convolution without bias and a batch norm, with a ReLU or without.

    Args:
        conv: the convolution.
        relu: whether there is a ReLU.
    """

    def __init__(self, conv: SparseConvolution, relu: bool = True) -> None:
        super().__init__()
        self.conv = conv
        self.norm = FewRowsBatchNorm1d(conv.out_channels)
        self.relu = relu

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        """Returns the tensor of the convolution's outputs."""
        x = self.conv(x)
        features = self.norm(x.features)
        return x.replace_feature(F.relu(features, inplace=True) if self.relu else features)


def _subm(in_channels: int, out_channels: int, level: int, relu: bool = True) -> ConvNorm:
    key = subm_key(level, _FULL)
    return ConvNorm(SubMConv3d(in_channels, out_channels, _FULL, bias=False, indice_key=key), relu)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut, 1x1x1 where the channels differ.

    Args:
        in_channels, out_channels: channels.
        level: resolution of the voxels.
    """

    def __init__(self, in_channels: int, out_channels: int, level: int) -> None:
        super().__init__()
        self.first = _subm(in_channels, out_channels, level)
        self.second = _subm(out_channels, out_channels, level, relu=False)
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Sequential(nn.Linear(in_channels, out_channels, bias=False), FewRowsBatchNorm1d(out_channels))
        )

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        """Returns the tensor of the same voxels."""
        out = self.second(self.first(x))
        return out.replace_feature(F.relu(out.features + self.shortcut(x.features)))


class SparseUNet(nn.Module):
    """The network of MinkUNet18 and SPVCNN without its classifier: a stem, four levels down, four up.

    A level down is a convolution of kernel and stride 2 and two residual blocks; a level up its inverse, the skip
    connection next to it, and two residual blocks.

    Args:
        in_channels: features of a voxel.
        channel_ratio: factor of all channels, `cr` of the released code.

    Attributes:
        channels: of the stem, the four levels down, the four levels up.
    """

    def __init__(self, in_channels: int, channel_ratio: float) -> None:
        super().__init__()
        self.channels = cs = [int(channel_ratio * channels) for channels in _CHANNELS]
        self.stem = nn.Sequential(_subm(in_channels, cs[0], 0), _subm(cs[0], cs[0], 0))
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        for level in range(_LEVELS):
            conv = SparseConv3d(cs[level], cs[level], 2, 2, bias=False, indice_key=f'down{level}')
            blocks = (ResidualBlock(cs[level + k], cs[level + 1], level + 1) for k in range(2))
            self.down.append(nn.Sequential(ConvNorm(conv), *blocks))
        for step in range(_LEVELS):
            level, before, after = _LEVELS - 1 - step, cs[_LEVELS + step], cs[_LEVELS + 1 + step]
            up = SparseInverseConv3d(before, after, 2, bias=False, indice_key=f'down{level}')
            self.up.append(ConvNorm(up))
            self.merge.append(
                nn.Sequential(ResidualBlock(after + cs[level], after, level), ResidualBlock(after, after, level))
            )

    def rise(self, step: int, x: SparseConvTensor, skip: SparseConvTensor) -> SparseConvTensor:
        """Returns the tensor of the next finer level, that of `skip`; step 0 begins at the coarsest."""
        x = self.up[step](x)
        merged: SparseConvTensor = self.merge[step](x.replace_feature(torch.cat([x.features, skip.features], 1)))
        return merged


def padded(voxels: VoxelBatch) -> VoxelBatch:
    """Returns the voxels in a grid whose sizes four strides of 2 divide: no voxel at its end is lost."""
    step = 2**_LEVELS
    x, y, z = (-(-size // step) * step for size in voxels.grid_shape)
    return replace(voxels, grid_shape=(x, y, z))


def check_features(net: nn.Module, voxels: VoxelBatch, wanted: int) -> None:
    """Raises InputError where the partition does not give a point `wanted` features."""
    if voxels.features.shape[1] != wanted:
        raise InputError(
            f'{type(net).__name__} takes {wanted} features of a point, the last three its offset, but the partition '
            f'gives {voxels.features.shape[1]}: take CubePartition, and set in_channels to 3 + number of its columns'
        )


# mmdet3d has registered a segmentor as MinkUNet.
@MODELS.register_module(name='MinkUNet18')
class MinkUNet(nn.Module):
    """MinkUNet18 on voxels of a `CubePartition`: `net(voxels) -> SegOutputs`.

    A voxel has the features of its first point, as in the released code of SPVNAS, so that they depend on the order of
    points. That code also labels a voxel by its first point; here most points decide. Outputs of a point are those of
    its voxel. The widths 0.5, 0.64 and 1.0 have 5.44, 8.77 and 21.72 million parameters; published are 5.5, 8.8 and
    21.7, with three layers that the released network has and does not use (0.014, 0.022 and 0.055 million).

    Args:
        num_classes: K.
        in_channels: features of a point: x, y, z and `columns` of the partition.
        channel_ratio: factor of all channels, `cr` of the released code.
    """

    def __init__(self, num_classes: int, in_channels: int = 4, channel_ratio: float = 1.0) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.unet = SparseUNet(in_channels, channel_ratio)
        self.classifier = nn.Linear(self.unet.channels[-1], num_classes)

    def forward(self, voxels: VoxelBatch) -> SegOutputs:
        """Returns features and logits of voxels, and the same for points."""
        check_features(self, voxels, self.in_channels + 3)
        with sparse_precision(voxels.features[_first_points(voxels), : self.in_channels]) as features:
            x = self.unet.stem(sparse_tensor(features, padded(voxels)))
            skips = []
            for down in self.unet.down:
                skips.append(x)
                x = down(x)
            for step in range(_LEVELS):
                x = self.unet.rise(step, x, skips.pop())
            logits = self.classifier(x.features)
        rows = voxels.point_to_voxel
        return SegOutputs(x.features, logits, x.features[rows], logits[rows])


def _first_points(voxels: VoxelBatch) -> Tensor:
    """Returns the first point (M,) of each voxel."""
    rows = voxels.point_to_voxel
    numbers = torch.arange(len(rows), device=rows.device)
    return numbers.new_full((len(voxels.coords),), len(rows)).scatter_reduce(0, rows, numbers, 'amin')
