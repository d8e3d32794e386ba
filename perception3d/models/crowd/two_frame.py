"""People in two frames: the map of the frame before is aligned with the present one by an offset that is learned.

Our formulation (the paper's code was never released, see `head`). Between two annotated frames of STCrowd, 0.4 s, a
pedestrian walks about 0.56 m, the width of a body, so that points of both in one cloud would smear people. Features are
joined instead: F_0' = conv([F_0(t), F_0(t-1) at u + o(u)]), with an offset o of at most 1 m at every cell. The LiDAR is
taken to stand still, or to move less than that: STCrowd has no poses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmcv.cnn import ConvModule
from mmdet3d.models.detectors import VoxelNet
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.crowd.head import DensityHeatmapHead
from perception3d.models.crowd.maps import CrowdMaps
from perception3d.registry import MODELS
from perception3d.structures.export_spec import ExportSpec, ReadSample

_VELOCITY = slice(8, 10)


class FeaturesInTime(NamedTuple):
    """Maps (B, C, H_l, W_l) of each level, finest first, and the seconds (B,) since the frame that they also hold."""

    levels: tuple[Tensor, ...]
    interval_s: Tensor


class AlignedFusion(BaseModule):
    """Joins the map of the frame before, aligned by a predicted offset, to the present one.

    The offset starts at zero. It is o = v / sqrt(1 + |v|^2) * `max_offset_m` of what two convolutions give for v, so
    that it stays below that length.

    Args:
        channels: of both maps and of the result.
        range_m: (x0, y0, x1, y1) that the maps cover, metres; axes [y, x].
        max_offset_m: what a person may walk between two frames.
    """

    def __init__(
        self, channels: int, range_m: Sequence[float], max_offset_m: float = 1.0, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = dict(type='BN', eps=1e-3, momentum=0.01)
        x0, y0, x1, y1 = map(float, range_m)
        self.extent_m, self.max_offset_m = (x1 - x0, y1 - y0), max_offset_m
        self.hidden = ConvModule(2 * channels, channels // 2, 3, padding=1, norm_cfg=norm_cfg)
        self.offset = nn.Conv2d(channels // 2, 2, 3, padding=1)
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)
        self.joined = ConvModule(2 * channels, channels, 3, padding=1, norm_cfg=norm_cfg)

    def offsets(self, now: Tensor, before: Tensor) -> Tensor:
        """Returns (B, 2, H, W), metres along x and y: where on the map before to look for what is here now."""
        raw = self.offset(self.hidden(torch.cat([now, before], 1))).float()
        return self.max_offset_m * raw / torch.sqrt(1 + raw.square().sum(1, keepdim=True))

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        """Returns (B, C, H, W) from the present map and the one before, both (B, C, H, W)."""
        aligned = shifted(before, self.offsets(now, before), self.extent_m)
        joined: Tensor = self.joined(torch.cat([now, aligned.to(now.dtype)], 1))
        return joined


def shifted(maps: Tensor, offset_m: Tensor, extent_m: tuple[float, float]) -> Tensor:
    """Returns maps (B, C, H, W) read bilinearly at u + offset, in float32; zeros outside.

    Args:
        maps: axes [y, x].
        offset_m: (B, 2, H, W) along x and y, metres.
        extent_m: length of the whole map along x and y, metres.
    """
    batch, _, height, width = maps.shape
    still = torch.eye(2, 3, device=maps.device).expand(batch, 2, 3)
    places = F.affine_grid(still, [batch, 1, height, width], align_corners=False)
    # The map is 2 long in the coordinates of grid_sample.
    moved = places + offset_m.float().permute(0, 2, 3, 1) * 2 / offset_m.new_tensor(extent_m).float()
    with torch.autocast(maps.device.type, enabled=False):
        return F.grid_sample(maps.float(), moved, align_corners=False)


@MODELS.register_module()
class TwoFrameDensityHead(DensityHeatmapHead):
    """DensityHeatmapHead on features of two frames: it gives the metres walked since the frame before.

    The velocities among its codes are these over the true time between the frames.
    """

    def forward(self, features: Any) -> CrowdMaps:
        """Returns the maps of FeaturesInTime; codes hold velocities in m/s."""
        maps = super().forward(features.levels)
        codes = maps.codes.clone()
        codes[:, _VELOCITY] = codes[:, _VELOCITY] / features.interval_s[:, None, None, None]
        return maps._replace(codes=codes)


@MODELS.register_module()
class TwoFrameVoxelNet(VoxelNet):
    """mmdet3d's VoxelNet on two frames; both pass the same encoder, backbone and neck.

    The batch is that of TwoFrameDataPreprocessor. The frame before gets no gradient, which saves a third of an
    iteration: its network is that of the present frame. A sample without a frame before, as the first of a sequence,
    is its own.

    Args:
        fusion: settings of AlignedFusion, which joins the finest maps of the neck.
        interval_s: time between frames for a sample without one before.
        kwargs: as of VoxelNet. The head takes FeaturesInTime, as TwoFrameDensityHead.
    """

    more_than_a_cloud = 'the cloud of the frame before'
    """What it needs next to one cloud; for what makes clouds up."""

    def __init__(self, fusion: dict[str, Any], interval_s: float = 0.4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fusion = AlignedFusion(**fusion)
        self.interval_s = interval_s

    def extract_feat(self, batch_inputs_dict: dict) -> FeaturesInTime:
        """Returns the maps of all levels, the finest of both frames.

        Raises:
            InputError: the batch is not of TwoFrameDataPreprocessor.
        """
        if 'interval_s' not in batch_inputs_dict:
            raise InputError(
                f'{type(self).__name__} has no clouds of the frame before: set data_preprocessor.type='
                'TwoFrameDataPreprocessor, and LoadPreviousCloud behind the loading of the points'
            )
        interval_s = batch_inputs_dict['interval_s']
        known = interval_s.isfinite()
        earlier = None
        if batch_inputs_dict['previous_voxels'] is not None:
            inputs = {key: batch_inputs_dict[f'previous_{key}'] for key in ('points', 'voxels')}
            with torch.no_grad():
                # A network for inference may write the next maps over these.
                earlier = super().extract_feat(inputs)[0].clone()
        finest, *coarser = super().extract_feat(batch_inputs_dict)
        before = finest.detach()
        if earlier is not None:
            # The rows of `earlier` are the samples with a frame before; a mask as an index would make a GPU wait.
            rows = (known.cumsum(0) - 1).clamp(min=0)
            before = torch.where(known[:, None, None, None], earlier[rows], before)
        interval_s = interval_s.nan_to_num(nan=self.interval_s)
        return FeaturesInTime((self.fusion(finest, before), *coarser), interval_s)

    def export_spec(self, read_sample: ReadSample) -> ExportSpec:
        """Raises InputError: the dense part of one frame alone would be another model."""
        raise InputError(
            f'{type(self).__name__} joins the maps of two frames and is not exported: export a model of one frame, '
            'such as configs/dha/dha_pillar_256x256_40e_stcrowd.py'
        )
