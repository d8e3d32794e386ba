"""Pillars without their padding: the encoder works on the points alone, the map is filled row by row."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from mmdet3d.models.middle_encoders import PointPillarsScatter
from mmdet3d.models.voxel_encoders import PillarFeatureNet
from torch import Tensor, nn

from perception3d.compat.pillar_maps import require_inside
from perception3d.geometry.threads import PerThread, allocate_to_keep
from perception3d.ops.segments import segment_max
from perception3d.registry import MODELS


@MODELS.register_module()
class CompactPillarFeatureNet(PillarFeatureNet):
    """mmdet3d's PillarFeatureNet, computed on the points alone.

    A pillar has room for 20 to 64 points and holds three on average. The padding is rows of zeros, which all become
    the same vector: its share of the batch statistics and of the maximum is added at the end. Weights, results and
    gradients are those of mmdet3d to rounding. On a GPU, where finding the points would wait for the device, and for
    several layers or other norms than batch norm, mmdet3d's own code runs. Without pillars the batch statistics stay.
    """

    # What the benchmark compares it with.
    upstream_class: ClassVar[type] = PillarFeatureNet

    @property
    def takes_no_voxels(self) -> bool:
        """Whether calls without a pillar leave the batch statistics as they are."""
        layer = self.pfn_layers[0]
        return len(self.pfn_layers) == 1 and layer.mode == 'max' and type(layer.norm) is nn.BatchNorm1d

    def forward(self, features: Tensor, num_points: Tensor, coors: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns (V, C) from points (V, P, F), counts (V,) and pillar indices (V, 4) as batch, z, y, x."""
        if not self.takes_no_voxels or (features.is_cuda and len(features)):
            return super().forward(features, num_points, coors, *args, **kwargs)
        with torch.autocast(features.device.type, enabled=False):
            return self._compact(features.float(), num_points, coors)

    def _compact(self, features: Tensor, num_points: Tensor, coors: Tensor) -> Tensor:
        pillars, room, _ = features.shape
        device = features.device
        real = torch.arange(room, device=device)[None] < num_points[:, None]
        run = torch.repeat_interleave(torch.arange(pillars, device=device), num_points.long())
        points = features[real]
        decorated = self._decorate(points, features, num_points, coors, run)
        layer = self.pfn_layers[0]
        rows = layer.linear(decorated)
        scale, shift = _norm_with_padding(layer.norm, rows, pillars * room)
        # ReLU and maximum commute; the padding has the value `shift`.
        best = segment_max(rows * scale + shift, num_points)
        best = torch.where((num_points < room)[:, None], torch.maximum(best, shift), best)
        return torch.relu(best)

    def _decorate(self, points: Tensor, features: Tensor, num_points: Tensor, coors: Tensor, run: Tensor) -> Tensor:
        """Returns the rows (R, 4 + 3 + 3 + 1) that mmdet3d would make of points (R, F) of the pillars `run` (R,)."""
        parts = [points]
        if self._with_cluster_center:
            means = features[:, :, :3].sum(1) / num_points[:, None].to(features.dtype)
            parts.append(points[:, :3] - means[run])
        if self._with_voxel_center:
            size = points.new_tensor([self.vx, self.vy, self.vz])
            offset = points.new_tensor([self.x_offset, self.y_offset, self.z_offset])
            centres = coors[:, [3, 2, 1]].to(points.dtype) * size + offset
            from_centre = points[:, :3] - centres[run]
            if self.legacy:
                # mmdet3d's early models overwrote the coordinates themselves.
                parts[0] = torch.cat([from_centre, points[:, 3:]], 1)
            parts.append(from_centre)
        if self._with_distance:
            parts.append(torch.linalg.vector_norm(parts[0][:, :3], dim=1, keepdim=True))
        return torch.cat(parts, 1)


def _norm_with_padding(norm: nn.BatchNorm1d, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns scale and shift (C,) of batch norm over `rows` (R, C) and count - R rows of zeros.

    In training, its running averages move as batch norm moves them; no rows have no statistics, so that they stay.
    """
    if count and (norm.training or not norm.track_running_stats):
        mean = rows.sum(0) / count
        squares = (rows - mean).square().sum(0) + (count - len(rows)) * mean.square()
        variance = squares / count
        if norm.training and norm.track_running_stats:
            assert norm.running_mean is not None and norm.running_var is not None
            assert norm.num_batches_tracked is not None
            with torch.no_grad():
                norm.num_batches_tracked.add_(1)
                share = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
                norm.running_mean.lerp_(mean, share)
                norm.running_var.lerp_(variance * (count / max(count - 1, 1)), share)
    else:
        assert norm.running_mean is not None and norm.running_var is not None
        mean, variance = norm.running_mean, norm.running_var
    scale = torch.rsqrt(variance + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


class _LastMap(PerThread):
    """The map that a thread wrote last, (N, C), and the rows of it that were filled."""

    def __init__(self) -> None:
        self.rows: Tensor | None = None
        self.filled: Tensor | None = None


class Canvas:
    """Zeros to write features into. If it `keeps` them, they are cleared and used again: a map is 50 MB.

    Each thread has its own.
    """

    def __init__(self) -> None:
        self.keeps = False
        self._last = _LastMap()

    def cleared(self, like: Tensor, count: int, channels: int) -> Tensor:
        """Returns zeros (count, channels) of the type and device of `like`."""
        kept, last = self._last.rows, self._last
        # Not kept while it is written: after an error its content is undefined.
        last.rows = None
        if kept is None or kept.shape != (count, channels) or kept.dtype != like.dtype or kept.device != like.device:
            return allocate_to_keep(torch.zeros, count, channels, dtype=like.dtype, device=like.device)
        assert last.filled is not None, 'kept with the rows'
        return kept.index_fill_(0, last.filled, 0)

    def keep(self, rows: Tensor, filled: Tensor) -> None:
        """Keeps the memory that `cleared` returned, of which the rows `filled` (K,) were written."""
        # With gradients, the map would hold the graphs of all calls.
        if self.keeps and not rows.requires_grad:
            self._last.rows, self._last.filled = rows, filled


@MODELS.register_module()
class RowPillarsScatter(PointPillarsScatter):
    """mmdet3d's PointPillarsScatter, filled pillar by pillar: whole rows of channels are written, all samples at once.

    The map is channels-last where nothing is trained, which is the layout that convolutions read fastest on a CPU.
    """

    # What the benchmark compares it with.
    upstream_class: ClassVar[type] = PointPillarsScatter

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._canvas = Canvas()

    def prepare_for_inference(self) -> None:
        """Lets calls write into the map of the call before, of which only the filled cells are cleared."""
        self._canvas.keeps = True

    def forward(self, voxel_features: Tensor, coors: Tensor, batch_size: int | None = None) -> Tensor:
        """Returns the map (B, C, ny, nx) of pillars (V, C) at indices (V, 4) as batch, z, y, x."""
        if batch_size is None:
            # mmdet3d passes no batch size when there is one sample.
            batch_size = 1
        coors = coors.long()
        require_inside(coors, (self.ny, self.nx))
        cells = (coors[:, 0] * self.ny + coors[:, 2]) * self.nx + coors[:, 3]
        rows = self._canvas.cleared(voxel_features, batch_size * self.ny * self.nx, self.in_channels)
        if voxel_features.requires_grad:
            rows = rows.index_copy(0, cells, voxel_features)
        else:
            self._canvas.keep(rows.index_copy_(0, cells, voxel_features), cells)
        canvas = rows.view(batch_size, self.ny, self.nx, self.in_channels).permute(0, 3, 1, 2)
        return canvas.contiguous() if self.training else canvas
