"""mmdet3d's sparse encoder with a faster end: its voxels become rows of the bird's-eye-view map."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from mmdet3d.models.middle_encoders import SparseEncoder
from mmdet3d.models.middle_encoders.sparse_encoder import SparseConvTensor
from torch import Tensor, nn

from perception3d.compat.pillar_maps import require_inside
from perception3d.models.blocks.row_norms import FewRowsBatchNorm1d
from perception3d.models.lidar_det.pillars import Canvas
from perception3d.registry import MODELS


@MODELS.register_module()
class RowSparseEncoder(SparseEncoder):
    """SparseEncoder whose map is filled voxel by voxel where nothing is trained, in channels-last memory.

    spconv fills a map channels-last and then moves all of it. Without a voxel the map is zero. Arguments are those of
    mmdet3d's class.
    """

    # What the benchmark compares it with.
    upstream_class: ClassVar[type] = SparseEncoder

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for norm in self.modules():
            if type(norm) is nn.BatchNorm1d:
                norm.__class__ = FewRowsBatchNorm1d
        self._canvas = Canvas()

    def prepare_for_inference(self) -> None:
        """Lets calls write into the map of the call before, of which only the filled cells are cleared."""
        self._canvas.keeps = True

    def forward(self, voxel_features: Tensor, coors: Tensor, batch_size: int) -> Any:
        """Returns the map (B, C * D, H, W) of voxels (V, C) at indices (V, 4) as batch, z, y, x."""
        if not len(voxel_features):
            # spconv needs a voxel. Times 0, so that every weight has a gradient: processes wait for all of them.
            voxel = voxel_features.new_zeros(1, voxel_features.shape[1]) + voxel_features.sum()
            return _times_zero(self.forward(voxel, coors.new_zeros(1, 4), batch_size))
        require_inside(coors, self.sparse_shape)
        if self.return_middle_feats or (torch.is_grad_enabled() and self.training):
            return super().forward(voxel_features, coors, batch_size)
        with torch.autocast(voxel_features.device.type, enabled=False):
            x = SparseConvTensor(voxel_features.float(), coors.int(), self.sparse_shape, batch_size)
            x = self.conv_input(x)
            for layer in self.encoder_layers:
                x = layer(x)
            return self._to_map(self.conv_out(x))

    def _to_map(self, x: Any) -> Tensor:
        depth, height, width = x.spatial_shape
        batch, z, y, across = x.indices.long().unbind(1)
        cells = (batch * height + y) * width + across
        channels = x.features.shape[1]
        rows = self._canvas.cleared(x.features, x.batch_size * height * width, channels * depth)
        rows.view(-1, channels, depth)[cells, :, z] = x.features
        self._canvas.keep(rows, cells)
        return rows.view(x.batch_size, height, width, channels * depth).permute(0, 3, 1, 2)


def _times_zero(maps: Any) -> Any:
    if isinstance(maps, Tensor):
        return maps * 0
    bird_view, levels = maps
    return bird_view * 0, [level.replace_feature(level.features * 0) for level in levels]
