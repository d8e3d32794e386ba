"""A centre-based head on bird's-eye maps (CenterPoint, arXiv 2006.11275), with targets drawn for a whole batch at once.

Not the head of the Fast-BEV paper, which is `FreeAnchorBEVHead`: this one needs far fewer training steps, so the tiny
configuration for a CPU uses it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmcv.cnn import ConvModule
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.fast_bev.anchors import SMALLEST_SIZE_M
from perception3d.models.heads.class_nms import ClassNMS
from perception3d.models.heads.heatmap import Centres, draw_gaussians, gaussian_radius, heatmap_loss
from perception3d.models.heads.targets import Targets, gather_targets
from perception3d.registry import MODELS

CODE_SIZE = 10
# |log(size in metres)| is cut here, so that a wild prediction stays a finite box (0.02 to 55 m).
_MAX_LOG_SIZE = 4.0
_PRIOR = 0.1


class CentreTargets(NamedTuple):
    """Targets of the maps: `heatmap` (B, C, X, Y), and for N boxes cells `x`, `y` (N,), `codes` (N, 10), `inside`.

    `inside` (N,) is False for boxes off the map and for invalid ones; their cells are 0.
    """

    heatmap: Tensor
    x: Tensor
    y: Tensor
    codes: Tensor
    inside: Tensor


@MODELS.register_module()
class CenterBEVHead(BaseModule):
    """A heatmap of object centres for each class and, in every cell, the box of the object that would be there.

    A 3x3 convolution with batch norm, then one 1x1 convolution for all outputs. Codes of a box: offset of the centre
    from the middle of its cell in cells (2), height of its middle in metres, logs of l, w, h in metres, sine and cosine
    of the yaw, velocity (m/s). All classes share the codes, as in a CenterPoint of one task. Peaks of 3 x 3 cells are
    boxes; scale-NMS then removes what overlaps.

    Args:
        num_classes: number of classes C.
        in_channels: channels of the bird's-eye map.
        range_m: (x0, y0, x1, y1) that the map covers, metres, LiDAR frame.
        hidden_channels: channels between the two convolutions.
        min_overlap, min_radius, max_radius: the Gaussian around a centre: IoU from which its radius follows, and its
            bounds in cells.
        code_weights: weights of the ten codes in the localisation loss.
        loc_weight: factor of that loss, an L1.
        score_thr, max_candidates, max_boxes: lowest score, peaks considered, boxes returned for a sample.
        nms: arguments of ClassNMS; None for scale-NMS with ten classes, plain rotated NMS with another number.
    """

    # Names of what `forward` returns.
    output_names = ('heatmap_logits', 'box_codes')

    def __init__(
        self,
        in_channels: int,
        range_m: Sequence[float],
        num_classes: int = 10,
        hidden_channels: int = 64,
        min_overlap: float = 0.1,
        min_radius: float = 2.0,
        max_radius: int = 6,
        code_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2),
        loc_weight: float = 0.25,
        score_thr: float = 0.02,
        max_candidates: int = 300,
        max_boxes: int = 300,
        nms: dict[str, Any] | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(code_weights) != CODE_SIZE:
            raise InputError(
                f'code_weights needs {CODE_SIZE} numbers (dx dy z l w h sin cos vx vy), got {len(code_weights)}'
            )
        if nms is None:
            self.nms = ClassNMS() if num_classes == len(ClassNMS.kinds) else ClassNMS.plain(num_classes)
        else:
            self.nms = ClassNMS(**nms)
        self.num_classes, self.range_m = num_classes, tuple(range_m)
        self.min_overlap, self.min_radius, self.max_radius = min_overlap, min_radius, max_radius
        self.loc_weight, self.score_thr = loc_weight, score_thr
        self.max_candidates, self.max_boxes = max_candidates, max_boxes
        self.register_buffer('code_weights', torch.tensor(code_weights, dtype=torch.float32), persistent=False)
        norm_cfg = norm_cfg or dict(type='BN')
        self.shared_conv = ConvModule(in_channels, hidden_channels, 3, padding=1, norm_cfg=norm_cfg)
        self.out_conv = nn.Conv2d(hidden_channels, num_classes + CODE_SIZE, 1)
        nn.init.normal_(self.out_conv.weight, std=0.01)
        assert self.out_conv.bias is not None
        nn.init.zeros_(self.out_conv.bias)
        nn.init.constant_(self.out_conv.bias[:num_classes], -math.log((1 - _PRIOR) / _PRIOR))

    @property
    def map_range_m(self) -> tuple[float, ...]:
        """(x0, y0, x1, y1) that the map is taken to cover, metres."""
        return self.range_m

    def forward(self, bev: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (B, C, X, Y) and box codes (B, 10, X, Y), float32, of a map (B, in_channels, X, Y)."""
        with torch.autocast(bev.device.type, enabled=False):
            joint = self.out_conv(self.shared_conv(bev.to(self.out_conv.weight.dtype))).float()
        return joint[:, : self.num_classes], joint[:, self.num_classes :]

    def loss(self, bev: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Losses of a batch: `loss_heatmap`, `loss_box` (scalars), from `gt_instances_3d` of the samples.

        Objects are counted over all processes, so that N processes take the step of one with N times the batch.
        """
        logits, codes = self(bev)
        instances = [sample.gt_instances_3d for sample in batch_data_samples]
        boxes, labels = [i.bboxes_3d.tensor for i in instances], [i.labels_3d for i in instances]
        truth = gather_targets(boxes, labels, self.num_classes, logits.device)
        targets = self.targets(truth, tuple(logits.shape[2:]))
        count = targets.inside.sum().float()
        all_reduce(count, 'sum')
        objects = count.clamp(min=1) / get_world_size()
        own = codes[truth.sample, :, targets.x, targets.y]
        # An unknown velocity is NaN: it takes no part.
        known = targets.codes.isfinite() & targets.inside[:, None]
        gap = (own - torch.where(known, targets.codes, own.detach())).abs() * self.code_weights
        return {
            'loss_heatmap': heatmap_loss(logits, targets.heatmap) / objects,
            'loss_box': self.loc_weight * gap.sum() / objects,
        }

    @torch.no_grad()
    def targets(self, targets: Targets, shape: tuple[int, int]) -> CentreTargets:
        """Draws the heatmaps of a batch and encodes its boxes, for maps of `shape` (X, Y)."""
        boxes = targets.boxes
        cell = [(self.range_m[axis + 2] - self.range_m[axis]) / shape[axis] for axis in (0, 1)]
        place = [(boxes[:, axis] - self.range_m[axis]) / cell[axis] for axis in (0, 1)]
        inside = targets.valid & (place[0] >= 0) & (place[0] < shape[0]) & (place[1] >= 0) & (place[1] < shape[1])
        x, y = (torch.where(inside, p, p.new_zeros(())).long() for p in place)
        size = boxes[:, 3:6].clamp(min=SMALLEST_SIZE_M)
        offset = torch.stack([place[0] - x - 0.5, place[1] - y - 0.5], 1)
        middle = boxes[:, 2:3] + boxes[:, 5:6] / 2
        turn = torch.stack([boxes[:, 6].sin(), boxes[:, 6].cos()], 1)
        codes = torch.cat([offset, middle, size.log(), turn, boxes[:, 7:9]], 1)
        radius = gaussian_radius(size[:, 0] / cell[0], size[:, 1] / cell[1], self.min_overlap).floor()
        radius = radius.clamp(self.min_radius, self.max_radius)
        heatmap = boxes.new_zeros(len(targets.counts), self.num_classes, *shape)
        draw_gaussians(heatmap, Centres(targets.sample, targets.labels, x, y, radius, inside), self.max_radius)
        return CentreTargets(heatmap, x, y, codes, inside)

    def predict(self, bev: Tensor, batch_data_samples: list) -> list[InstanceData]:
        """Boxes of each sample as InstanceData (bboxes_3d, scores_3d, labels_3d), by falling score."""
        return self.predict_passes([bev], batch_data_samples)

    @torch.no_grad()
    def predict_passes(self, bevs: Sequence[Tensor], batch_data_samples: list) -> list[InstanceData]:
        """Boxes of each sample from several passes over it (test-time augmentation), joined before suppression.

        Each of `bevs` (B, C, X, Y) must describe the same LiDAR frame, as maps of flipped images do.
        """
        return self.boxes_from_outputs([self(bev) for bev in bevs], batch_data_samples)

    @torch.no_grad()
    def boxes_from_outputs(
        self, passes: Sequence[tuple[Tensor, Tensor]], batch_data_samples: list
    ) -> list[InstanceData]:
        """As `predict_passes`, from what `forward` returned in every pass, for instance from an ONNX file."""
        parts = [self.decode_outputs(*outputs) for outputs in passes]
        results = []
        for i, sample in enumerate(batch_data_samples):
            boxes, scores, labels = (torch.cat([part[field][i] for part in parts]) for field in range(3))
            by_class = scores.new_zeros(len(scores), self.num_classes)
            by_class[torch.arange(len(scores), device=scores.device), labels] = scores
            index, kept = self.nms.select(boxes, by_class, self.score_thr, self.max_boxes)
            prediction = InstanceData()
            prediction.bboxes_3d = sample.metainfo['box_type_3d'](boxes[index], box_dim=9)
            prediction.scores_3d = scores[index]
            prediction.labels_3d = kept
            results.append(prediction)
        return results

    def decode_outputs(self, logits: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, K, 9), scores (B, K) and labels (B, K) of the K best peaks of each sample, before suppression."""
        height, width = logits.shape[2:]
        heat = logits.nan_to_num(nan=-math.inf).sigmoid()
        heat = heat * (F.max_pool2d(heat, 3, 1, 1) == heat)
        scores, index = heat.flatten(1).topk(min(self.max_candidates, heat[0].numel()), dim=1)
        labels, place = index // (height * width), index % (height * width)
        return self.slot_boxes(codes, place), scores, labels

    def slot_boxes(self, codes: Tensor, index: Tensor) -> Tensor:
        """Boxes (B, K, 9) of the codes (B, 10, X, Y) in the cells `index` (B, K), x * Y + y."""
        batch, _, height, width = codes.shape
        x, y = index // width, index % width
        own = codes[torch.arange(batch, device=codes.device)[:, None], :, x, y].nan_to_num(nan=0.0)
        x0, y0, x1, y1 = self.range_m
        center_x = x0 + (x + 0.5 + own[..., 0]) * ((x1 - x0) / height)
        center_y = y0 + (y + 0.5 + own[..., 1]) * ((y1 - y0) / width)
        size = own[..., 3:6].clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE).exp()
        bottom = own[..., 2] - size[..., 2] / 2
        yaw = torch.atan2(own[..., 6], own[..., 7])
        place_m = torch.stack([center_x, center_y, bottom], -1)
        return torch.cat([place_m, size, yaw[..., None], own[..., 8:10]], -1)
