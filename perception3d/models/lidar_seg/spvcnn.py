"""SPVCNN (SPVNAS, arXiv 2007.16100): MinkUNet18 with a branch that keeps points at their full resolution, on spconv."""

from __future__ import annotations

import torch
from spconv.pytorch import SparseConvTensor
from torch import Tensor, nn

from perception3d.models.blocks.row_norms import FewRowsBatchNorm1d
from perception3d.models.lidar_seg.mink_unet import SparseUNet, check_features, padded
from perception3d.models.lidar_seg.segmentor import SegOutputs
from perception3d.models.lidar_seg.sparse import sparse_precision, sparse_tensor
from perception3d.models.lidar_seg.voxels import VoxelBatch
from perception3d.ops.devoxelise import Trilinear, VoxelTable, trilinear
from perception3d.ops.grouping import group_mean
from perception3d.registry import MODELS


@MODELS.register_module()
class SPVCNN(nn.Module):
    """SPVCNN on voxels of a `CubePartition`: `net(voxels) -> SegOutputs`.

    After the stem, at the coarsest level, and half way up, voxels are interpolated at the points (trilinear), added to
    what a linear layer makes of the points' earlier features, and averaged back into the voxels; the fourth time, at
    the finest level, they are classified.

    The released code keeps one point of each voxel, the first, at the voxel's centre. Here the branch has every point
    at its own place, as the paper describes it, and a voxel begins with the mean of its points. `voxel_features` and
    `voxel_logits` are means over a voxel's points: the network has no classifier of voxels, distillation asks for them.

    Args:
        num_classes: K.
        in_channels: features of a point: x, y, z and `columns` of the partition.
        channel_ratio: factor of all channels, `cr` of the released code.
        dropout: on the voxels after the second and third exchange.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 4, channel_ratio: float = 1.0, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, in_channels
        self.unet = SparseUNet(in_channels, channel_ratio)
        cs = self.unet.channels
        self.point_mlps = nn.ModuleList(_point_mlp(cs[a], cs[b]) for a, b in ((0, 4), (4, 6), (6, 8)))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(cs[8], num_classes)

    def forward(self, voxels: VoxelBatch) -> SegOutputs:
        """Returns features and logits of points, and their means over voxels."""
        check_features(self, voxels, self.in_channels + 3)
        rows, unet, branch = voxels.point_to_voxel, self.unet, _Branch(padded(voxels))
        begin = group_mean(voxels.features[:, : self.in_channels], rows, len(voxels.coords))
        with sparse_precision(begin) as features:
            x = unet.stem(sparse_tensor(features, padded(voxels)))
            points = branch.at_points(x)
            skips = [x]
            x = branch.into_voxels(points, x)
            for level, down in enumerate(unet.down):
                x = down(x)
                if level < 3:
                    skips.append(x)
            for step in range(4):
                if step in (0, 2):
                    points = branch.at_points(x) + self.point_mlps[step // 2](points)
                    x = branch.into_voxels(points, x)
                    x = x.replace_feature(self.dropout(x.features))
                x = unet.rise(step, x, skips.pop())
            points = branch.at_points(x) + self.point_mlps[2](points)
            logits = self.classifier(points)
            means = group_mean(points, rows, len(voxels.coords))
            return SegOutputs(means, self.classifier(means), points, logits)


class _Branch:
    """Where the points of a batch are among the voxels of each level; a level is looked up once."""

    def __init__(self, voxels: VoxelBatch) -> None:
        self._voxels = voxels
        self._cells = voxels.coords[voxels.point_to_voxel].long()
        # The offset of a point outside the grid has nothing to do with the border's cell.
        self._positions = self._cells[:, 1:] + voxels.features[:, -3:].clamp(-0.5, 0.5)
        self._levels: dict[int, tuple[Trilinear, Tensor]] = {}

    def at_points(self, x: SparseConvTensor) -> Tensor:
        """Returns features (P, C) at the points."""
        return self._level(x)[0](x.features)

    def into_voxels(self, points: Tensor, x: SparseConvTensor) -> SparseConvTensor:
        """Returns x with the means of the features (P, C) of the points in each voxel."""
        return x.replace_feature(group_mean(points, self._level(x)[1], len(x.indices)))

    def _level(self, x: SparseConvTensor) -> tuple[Trilinear, Tensor]:
        """Returns the voxels around each point, and the row (P,) of the voxel in which it lies."""
        stride = self._voxels.grid_shape[0] // x.spatial_shape[0]
        if stride not in self._levels:
            table = VoxelTable(x.indices, x.spatial_shape)
            around = trilinear(table, self._voxels.point_batch, self._positions / stride)
            coarse = torch.cat([self._cells[:, :1], torch.div(self._cells[:, 1:], stride, rounding_mode='floor')], 1)
            self._levels[stride] = around, table.rows(table.keys(coarse))
        return self._levels[stride]


def _point_mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), FewRowsBatchNorm1d(outputs), nn.ReLU(inplace=True))
