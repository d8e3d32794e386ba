"""FreeAnchor detection head of Fast-BEV on the boxes of mmdet3d >= 1.0 (arXiv 1909.02466, 2301.12511)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.models.blocks.camera import plane_shape
from perception3d.models.fast_bev.anchors import (
    LARGEST_OUTPUT,
    AnchorGrid,
    decode,
    direction_bin,
    encode,
    resolve_direction,
)
from perception3d.models.fast_bev.assign import (
    Bags,
    explained_probability,
    predicted_rectangles,
    select_bags,
)
from perception3d.models.fast_bev.losses import localisation_loss, memory_order, negative_loss, positive_bag_loss
from perception3d.models.heads.class_nms import ClassNMS
from perception3d.models.heads.targets import Targets, gather_targets
from perception3d.registry import MODELS

CODE_SIZE = 9
HeadOutput = tuple[Tensor, Tensor, Tensor]


@MODELS.register_module()
class FreeAnchorBEVHead(BaseModule):
    """Class scores, boxes and headings for a few anchors in every cell of a bird's-eye map, trained with FreeAnchor.

    Three 1x1 convolutions give, for A anchors a cell and C classes, A*C class logits, A*9 box codes and A*2 direction
    logits; channels run anchor-major (anchor index = size * rotations + rotation). Everything runs in float32, also
    under autocast. Parameters are named as in the released code, so converted weights load by name.

    Args:
        num_classes: number of classes C.
        in_channels: channels of the bird's-eye map.
        anchors: arguments of AnchorGrid; None for the released anchors over +-50 m.
        pre_anchor_topk: bag size, best anchors considered for one object.
        bbox_thr: IoU at which a decoded box starts to explain an object.
        gamma, alpha: focal exponent, and share of the positive loss.
        code_weights: weights of the nine box codes in the localisation loss.
        loc_weight, loc_beta: factor and kink of its smooth L1; dir_weight: factor of the direction cross entropy.
        dir_offset: where direction bin 0 starts, radians. +pi/4 makes the bins equal to the released ones (the
            -pi/4 of mmdet3d's nuScenes configs agrees on half of all yaws only).
        score_thr, max_candidates, max_boxes: lowest score, anchors decoded in one pass, boxes returned for a sample.
        nms: arguments of ClassNMS, dict(iou=0.2) for plain rotated NMS, or None for the released scale-NMS.
    """

    # Names of what `forward` returns.
    output_names = ('class_logits', 'box_codes', 'direction_logits')

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 192,
        anchors: dict[str, Any] | None = None,
        pre_anchor_topk: int = 25,
        bbox_thr: float = 0.5,
        gamma: float = 2.0,
        alpha: float = 0.5,
        code_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2),
        loc_weight: float = 0.8,
        loc_beta: float = 1 / 9,
        dir_weight: float = 0.8,
        dir_offset: float = math.pi / 4,
        score_thr: float = 0.05,
        max_candidates: int = 1000,
        max_boxes: int = 500,
        nms: dict[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(code_weights) != CODE_SIZE:
            raise InputError(f'code_weights needs {CODE_SIZE} numbers (x y z l w h yaw vx vy), got {len(code_weights)}')
        self.num_classes = num_classes
        self.grid = AnchorGrid(**{k: _tuples(v) for k, v in (anchors or {}).items()})
        self.pre_anchor_topk, self.bbox_thr, self.gamma, self.alpha = pre_anchor_topk, bbox_thr, gamma, alpha
        self.loc_weight, self.loc_beta, self.dir_weight, self.dir_offset = loc_weight, loc_beta, dir_weight, dir_offset
        self.score_thr, self.max_candidates, self.max_boxes = score_thr, max_candidates, max_boxes
        self.nms = _suppression(nms, num_classes)
        self.register_buffer('code_weights', torch.tensor(code_weights, dtype=torch.float32), persistent=False)
        self.conv_cls = nn.Conv2d(in_channels, self.grid.per_cell * num_classes, 1)
        self.conv_reg = nn.Conv2d(in_channels, self.grid.per_cell * CODE_SIZE, 1)
        self.conv_dir_cls = nn.Conv2d(in_channels, self.grid.per_cell * 2, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weights from N(0, 0.01); the class bias starts every score at 0.01."""
        for conv in (self.conv_cls, self.conv_reg, self.conv_dir_cls):
            nn.init.normal_(conv.weight, std=0.01)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        assert self.conv_cls.bias is not None
        nn.init.constant_(self.conv_cls.bias, -math.log((1 - 0.01) / 0.01))

    def draw_varied_weights(self) -> None:
        """Draws weights whose scores and boxes differ from cell to cell, from a fixed seed.

        With those of `reset_parameters` all scores are nearly equal. With these, decoding and suppression have work to
        do in an untrained model, as benchmarks need it.
        """
        generator = torch.Generator().manual_seed(1)
        for conv in (self.conv_cls, self.conv_reg, self.conv_dir_cls):
            conv.weight.data.copy_(torch.randn(conv.weight.shape, generator=generator) * 0.03)
        assert self.conv_cls.bias is not None
        self.conv_cls.bias.data.fill_(-4.0)

    @property
    def map_range_m(self) -> tuple[float, ...]:
        """(x0, y0, x1, y1) that the map is taken to cover, metres."""
        return self.grid.range_m

    def forward(self, bev: Tensor) -> HeadOutput:
        """Class logits (B, A*C, Y, X), box codes (B, A*9, Y, X), direction logits (B, A*2, Y, X), all float32.

        `bev` is (B, C, X, Y); outputs are transposed as in the released head. A 1x1 convolution gives the same
        before and after a transposition, so it comes last, where it is a view.
        """
        with torch.autocast(bev.device.type, enabled=False):
            # One convolution reads the map once, and sums its gradient once, for all three outputs.
            convs = (self.conv_cls, self.conv_reg, self.conv_dir_cls)
            weight = torch.cat([conv.weight for conv in convs])
            bias = torch.cat([conv.bias for conv in convs if conv.bias is not None])
            joint = nn.functional.conv2d(bev.to(weight.dtype), weight, bias).float().transpose(2, 3)
            return joint.split([conv.out_channels for conv in convs], dim=1)

    def loss(self, bev: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Losses of a batch: `loss_positive`, `loss_negative` (scalars), from `gt_instances_3d` of the samples.

        Objects are counted over all processes, so that N processes take the step of one with N times the batch.
        """
        return self.loss_from_outputs(self(bev), batch_data_samples)

    def loss_from_outputs(self, outputs: HeadOutput, batch_data_samples: list) -> dict[str, Tensor]:
        """As `loss`, from the result of `forward`."""
        truth = [sample.gt_instances_3d for sample in batch_data_samples]
        boxes, labels = [t.bboxes_3d.tensor for t in truth], [t.labels_3d for t in truth]
        targets = gather_targets(boxes, labels, self.num_classes, outputs[0].device)
        with torch.autocast(outputs[0].device.type, enabled=False):
            return self._losses(self._by_anchor(outputs), targets)

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
    def boxes_from_outputs(self, passes: Sequence[HeadOutput], batch_data_samples: list) -> list[InstanceData]:
        """As `predict_passes`, from what `forward` returned in every pass, for instance from an ONNX file."""
        parts = [self.decode_outputs(outputs) for outputs in passes]
        results = []
        for i, sample in enumerate(batch_data_samples):
            boxes = torch.cat([part[0][i] for part in parts])
            scores = torch.cat([part[1][i] for part in parts])
            results.append(self._pick(boxes, scores, sample))
        return results

    def decode_outputs(self, outputs: HeadOutput) -> tuple[Tensor, Tensor]:
        """Boxes (B, K, 9) and class scores (B, K, C) of the K best anchors of each sample, before suppression."""
        cls, reg, direction = self._by_anchor(outputs)
        shape = plane_shape(cls)
        # topk takes NaN for the largest number.
        best = cls.amax(2).flatten(1).nan_to_num(nan=-LARGEST_OUTPUT)
        index = best.topk(min(self.max_candidates, best.shape[1]), dim=1).indices
        anchor, cell = index // (shape[0] * shape[1]), index % (shape[0] * shape[1])
        at = Bags(anchor, cell // shape[1], cell % shape[1])
        rows = torch.arange(len(cls), device=cls.device)[:, None]
        boxes = decode(self.grid.boxes(*at, shape), _at(reg, rows, at))
        half_turn = _at(direction, rows, at).argmax(-1)
        yaw = resolve_direction(boxes[..., 6], half_turn, self.dir_offset)
        boxes = torch.cat([boxes[..., :6], yaw[..., None], boxes[..., 7:]], -1)
        return boxes, _at(cls, rows, at).sigmoid()

    @torch.no_grad()
    def output_differences(self, expected: HeadOutput, got: HeadOutput) -> dict[str, float]:
        """Returns the largest differences of two outputs: of boxes (any of the nine codes) and of scores.

        Boxes are those that `expected` decodes; both outputs are decoded at the same anchors, so that ties between
        equal scores do not exchange boxes. `headings turned` is the share of all anchors with another half turn.
        """
        (cls, _, direction), (other_cls, other_reg, other_direction) = expected, got
        boxes, _ = self.decode_outputs(expected)
        other, _ = self.decode_outputs((cls, other_reg, direction))
        half_turns, others = (logits.unflatten(1, (-1, 2)).argmax(2) for logits in (direction, other_direction))
        return {
            'box difference': float((boxes - other).abs().max()),
            'score difference': float((cls.sigmoid() - other_cls.sigmoid()).abs().max()),
            'headings turned': float((half_turns != others).float().mean()),
        }

    def slot_boxes(self, codes: Tensor, index: Tensor) -> Tensor:
        """Boxes (B, K, 9) of the slots `index` (B, K), (anchor * Y + y) * X + x, of codes (B, A*9, Y, X).

        Their yaw is that of the anchor's half turn: `direction` logits do not count.
        """
        height, width = codes.shape[2:]
        reg = codes.transpose(2, 3).unflatten(1, (self.grid.per_cell, -1)).float()
        at = Bags(index // (height * width), index % width, index // width % height)
        rows = torch.arange(len(codes), device=codes.device)[:, None]
        return decode(self.grid.boxes(*at, (width, height)), _at(reg, rows, at))

    def _pick(self, boxes: Tensor, scores: Tensor, sample: Any) -> InstanceData:
        index, labels = self.nms.select(boxes, scores, self.score_thr, self.max_boxes)
        box_type = sample.metainfo['box_type_3d']
        prediction = InstanceData()
        prediction.bboxes_3d = box_type(boxes[index], box_dim=CODE_SIZE)
        prediction.scores_3d = scores[index, labels]
        prediction.labels_3d = labels
        return prediction

    def _by_anchor(self, outputs: HeadOutput) -> HeadOutput:
        """Views (B, A, codes, X, Y) of the outputs."""
        return tuple(out.transpose(2, 3).unflatten(1, (self.grid.per_cell, -1)).float() for out in outputs)

    def _losses(self, outputs: HeadOutput, targets: Targets) -> dict[str, Tensor]:
        cls, reg, _ = outputs
        with torch.no_grad():
            rectangles = predicted_rectangles(reg, self.grid)
            explained = explained_probability(rectangles, targets, cls, self.bbox_thr)
            count = targets.valid.sum().float()
            all_reduce(count, 'sum')
            objects = count.clamp(min=1) / get_world_size()
        positive = self._bag_losses(outputs, targets).sum()
        negative = negative_loss(cls, explained, self.gamma, LARGEST_OUTPUT)
        return {
            'loss_positive': self.alpha * positive / objects,
            'loss_negative': (1 - self.alpha) * negative / (objects * self.pre_anchor_topk),
        }

    def _bag_losses(self, outputs: HeadOutput, targets: Targets) -> Tensor:
        """Positive loss (N,) of every ground-truth row, 0 for invalid ones."""
        cls, reg, direction = outputs
        shape = plane_shape(cls)
        at = select_bags(targets, self.grid, shape, self.pre_anchor_topk)
        rows = targets.sample[:, None]
        anchors = self.grid.boxes(*at, shape)
        codes = encode(anchors, targets.boxes[:, None].expand(*anchors.shape[:2], CODE_SIZE))
        penalty = localisation_loss(_at(reg, rows, at), codes, self.code_weights, self.loc_beta, self.loc_weight)
        bins = direction_bin(targets.boxes[:, 6], self.dir_offset)[:, None].expand_as(at.anchor)
        logits = _at(direction, rows, at)
        penalty = penalty + self.dir_weight * nn.functional.cross_entropy(logits.movedim(-1, 1), bins, reduction='none')
        own_class = _at(cls, rows, at, targets.labels[:, None])
        return positive_bag_loss(own_class, penalty) * targets.valid


def _at(values: Tensor, rows: Tensor, at: Bags, code: Tensor | slice = slice(None)) -> Tensor:  # noqa: B008
    """Codes (N, K, codes) of `values` (B, A, codes, X, Y) at samples `rows` (N, 1) and anchors `at` (N, K).

    With `code` (N, 1) only that one is taken, (N, K). Infinities too are cut to a finite range; a NaN stays visible.
    """
    # Indexing in the order of memory makes the gradient come back in the layout of the convolution's output.
    order = memory_order(values)
    index = (rows, at.anchor, code, at.x, at.y)
    return values.permute(order)[tuple(index[i] for i in order)].clamp(-LARGEST_OUTPUT, LARGEST_OUTPUT)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value


def _suppression(nms: dict[str, Any] | None, num_classes: int) -> ClassNMS:
    if nms is None:
        return ClassNMS() if num_classes == len(ClassNMS.kinds) else ClassNMS.plain(num_classes)
    if set(nms) == {'iou'}:
        return ClassNMS.plain(num_classes, nms['iou'])
    rule = ClassNMS(**nms)
    if len(rule.kinds) != num_classes:
        raise InputError(f'nms: rules for {len(rule.kinds)} classes, but num_classes is {num_classes}')
    return rule
