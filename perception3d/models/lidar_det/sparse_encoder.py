"""mmdet3d's sparse encoder with a faster end: its voxels become rows of the bird's-eye-view map."""

from __future__ import annotations

from typing import Any

import torch
from mmdet3d.models.middle_encoders import SparseEncoder
from mmdet3d.models.middle_encoders.sparse_encoder import SparseConvTensor
from torch import Tensor

from perception3d.models.lidar_det.pillars import Canvas
from perception3d.registry import MODELS


@MODELS.register_module()
class RowSparseEncoder(SparseEncoder):
    """SparseEncoder whose map is filled voxel by voxel where nothing is trained, in channels-last memory.

    spconv fills a map channels-last and then moves all of it. Arguments are those of mmdet3d's class.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._canvas = Canvas()

    def prepare_for_inference(self) -> None:
        """Lets calls write into the map of the call before, of which only the filled cells are cleared."""
        self._canvas.keeps = True

    def forward(self, voxel_features: Tensor, coors: Tensor, batch_size: int) -> Any:
        """Returns the map (B, C * D, H, W) of voxels (V, C) at indices (V, 4) as batch, z, y, x."""
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
        rows = self._canvas.cleared(x.features, x.batch_size * height * width, channels * depth, cells)
        rows.view(-1, channels, depth)[cells, :, z] = x.features
        return rows.view(x.batch_size, height, width, channels * depth).permute(0, 3, 1, 2)
