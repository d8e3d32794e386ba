"""mmdet3d's anchor head without the work that its results do not need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from mmdet.models.utils import images_to_levels
from mmdet3d.models.dense_heads import Anchor3DHead
from mmdet3d.models.dense_heads.train_mixins import get_direction_target
from mmdet3d.models.layers import box3d_multiclass_nms
from mmdet3d.structures import limit_period, xywhr2xyxyr
from mmengine.structures import InstanceData
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.models.lidar_det.anchor_targets import assign, is_supported, nearest_bev
from perception3d.registry import MODELS


class _KeptAnchors:
    """A generator of anchors that makes the anchors of a map size once."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self._kept: dict[tuple, list[Tensor]] = {}
        self._rectangles: dict[tuple, list[Tensor]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def __getstate__(self) -> dict:
        return {'_generator': self._generator, '_kept': {}, '_rectangles': {}}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)

    def grid_anchors(self, featmap_sizes: Sequence[Any], device: Any = 'cuda') -> list[Tensor]:
        """Returns the anchors of each level for maps of these sizes; they are shared: do not write into them."""
        key = (*(tuple(size) for size in featmap_sizes), str(device))
        if key not in self._kept:
            self._kept[key] = self._generator.grid_anchors(featmap_sizes, device=device)
        return self._kept[key]

    def rectangles(self, anchors: list[Tensor], coordinate: str, by_class: bool) -> list[Tensor]:
        """Returns `nearest_bev` (A, 4) of all anchors or of each class's; made once for levels of `grid_anchors`.

        Anchors (..., C, R, D) belong to C classes.
        """
        size = next((key for key, levels in self._kept.items() if levels is anchors), None)
        key = (size, coordinate, by_class)
        if key in self._rectangles:
            return self._rectangles[key]
        together = torch.cat(anchors)
        parts = together.unbind(-3) if by_class else [together]
        rectangles = [nearest_bev(part.reshape(-1, part.shape[-1]), coordinate) for part in parts]
        if size is not None:
            self._rectangles[key] = rectangles
        return rectangles


@MODELS.register_module()
class FastAnchor3DHead(Anchor3DHead):
    """Anchor3DHead that keeps its anchors, decodes only the best ones and assigns targets only where objects are.

    The `nms_pre` best anchors are chosen by their logits, and only theirs are turned into scores, directions and boxes:
    the same boxes as mmdet3d's, which turns all of them first. On the CPU the targets come from `anchor_targets`, equal
    to mmdet3d's. Arguments are those of mmdet3d's class.
    """

    # What the benchmark compares it with.
    upstream_class: ClassVar[type] = Anchor3DHead
    prior_generator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        generator = dict(kwargs.get('anchor_generator') or {})
        sizes, ranges = len(generator.get('sizes') or ()), len(generator.get('ranges') or ())
        if generator.get('size_per_range', True) and sizes != ranges and ranges > 1:
            raise InputError(f'anchor_generator has {sizes} sizes, but {ranges} ranges: give one range a size, or one')
        super().__init__(*args, **kwargs)
        self.prior_generator = _KeptAnchors(self.prior_generator)
        self._together: nn.Conv2d | None = None

    def prepare_for_inference(self) -> None:
        """Puts the head's convolutions together, so that the map is read once; weights must not change afterwards."""
        parts = [self.conv_cls, self.conv_reg, *([self.conv_dir_cls] if self.use_direction_classifier else [])]
        together = nn.Conv2d(parts[0].in_channels, sum(part.out_channels for part in parts), 1)
        together.weight.data = torch.cat([part.weight.data for part in parts])
        assert together.bias is not None
        together.bias.data = torch.cat([part.bias.data for part in parts])
        # Torch's types do not know the memory format here.
        device = parts[0].weight.device
        self._together = together.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        together.requires_grad_(False)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns the maps of scores, box deltas and directions (None without them) of one level."""
        if self._together is None:
            return super().forward_single(x)
        sizes = [self.conv_cls.out_channels, self.conv_reg.out_channels]
        maps = self._together(x)
        rest = maps.shape[1] - sum(sizes)
        scores, deltas, *directions = maps.split([*sizes, *([rest] if rest else [])], 1)
        return scores, deltas, directions[0] if directions else None

    def _predict_by_feat_single(
        self,
        cls_score_list: list[Tensor],
        bbox_pred_list: list[Tensor],
        dir_cls_pred_list: list[Tensor],
        mlvl_priors: list[Tensor],
        input_meta: dict,
        cfg: Any,
        rescale: bool = False,
        **kwargs: Any,
    ) -> InstanceData:
        if not self.use_sigmoid_cls:
            return super()._predict_by_feat_single(
                cls_score_list, bbox_pred_list, dir_cls_pred_list, mlvl_priors, input_meta, cfg, rescale, **kwargs
            )
        cfg = self.test_cfg if cfg is None else cfg
        levels = [
            self._best_of_level(*level, cfg.get('nms_pre', -1))
            for level in zip(cls_score_list, bbox_pred_list, dir_cls_pred_list, mlvl_priors, strict=True)
        ]
        boxes, scores, directions = (torch.cat(parts) for parts in zip(*levels, strict=True))
        box_type = input_meta['box_type_3d']
        for_nms = xywhr2xyxyr(box_type(boxes, box_dim=self.box_code_size).bev)
        # The suppression expects a column for background.
        scores = torch.cat([scores, scores.new_zeros(len(scores), 1)], 1)
        boxes, scores, labels, directions = box3d_multiclass_nms(
            boxes, for_nms, scores, cfg.get('score_thr', 0), cfg.max_num, cfg, directions
        )
        if len(boxes):
            turn = limit_period(boxes[..., 6] - self.dir_offset, self.dir_limit_offset, torch.pi)
            boxes[..., 6] = turn + self.dir_offset + torch.pi * directions.to(boxes.dtype)
        return InstanceData(bboxes_3d=box_type(boxes, box_dim=self.box_code_size), scores_3d=scores, labels_3d=labels)

    def anchor_target_3d(
        self,
        anchor_list: list,
        batch_gt_instances_3d: list[InstanceData],
        batch_input_metas: list[dict],
        batch_gt_instances_ignore: list | None = None,
        label_channels: int = 1,
        num_classes: int = 1,
        sampling: bool = True,
    ) -> tuple:
        """Targets of the anchors of all frames; see mmdet3d's method for the eight results."""
        levels = anchor_list[0]
        by_class = isinstance(self.bbox_assigner, list)
        assigners = self.bbox_assigner if by_class else [self.bbox_assigner]
        ignored = any(ignore is not None for ignore in batch_gt_instances_ignore or ())
        plain = not ignored and not sampling and all(map(is_supported, assigners))
        if not plain or not torch.is_tensor(levels[0]) or levels[0].device.type != 'cpu':
            return super().anchor_target_3d(
                anchor_list,
                batch_gt_instances_3d,
                batch_input_metas,
                batch_gt_instances_ignore,
                label_channels,
                num_classes,
                sampling,
            )
        anchors = torch.cat(levels)
        rectangles = self.prior_generator.rectangles(levels, assigners[0].iou_calculator.coordinate, by_class)
        frames = [
            self._targets_of_frame(anchors, rectangles, assigners, instances) for instances in batch_gt_instances_3d
        ]
        *targets, positives, negatives = zip(*frames, strict=True)
        counts = [level.numel() // self.box_code_size for level in levels]
        by_level = [images_to_levels(parts, counts) for parts in targets]
        return *by_level, sum(max(count, 1) for count in positives), sum(max(count, 1) for count in negatives)

    def _targets_of_frame(
        self, anchors: Tensor, rectangles: list[Tensor], assigners: list, instances: InstanceData
    ) -> tuple:
        """Returns labels, their weights, box targets, their weights, directions, their weights; two counts."""
        by_class = isinstance(self.bbox_assigner, list)
        boxes, classes = instances.bboxes_3d, instances.labels_3d
        boxes = boxes if torch.is_tensor(boxes) else boxes.tensor
        owners = torch.empty(anchors.shape[:-1], dtype=torch.long)
        for i, (assigner, own) in enumerate(zip(assigners, rectangles, strict=True)):
            chosen = torch.arange(len(boxes))
            if by_class and self.assign_per_class:
                chosen = chosen[classes == i]
            part = owners.select(-2, i) if by_class else owners
            if not len(chosen):
                part.zero_()
                continue
            assigned = assign(assigner, own, nearest_bev(boxes[chosen], assigner.iou_calculator.coordinate))
            assigned = torch.where(assigned > 0, chosen[(assigned - 1).clamp_(min=0)] + 1, assigned)
            part.copy_(assigned.view(part.shape))
        owners, anchors = owners.view(-1), anchors.reshape(-1, self.box_code_size)
        positive = (owners > 0).nonzero().squeeze(1)
        owner = owners[positive] - 1
        weights = (owners >= 0).float()
        if self.train_cfg.pos_weight > 0:
            weights[positive] = self.train_cfg.pos_weight
        labels = torch.full_like(owners, self.num_classes)
        labels[positive] = classes[owner]
        deltas, delta_weights = torch.zeros_like(anchors), torch.zeros_like(anchors)
        directions, direction_weights = torch.zeros_like(owners), torch.zeros_like(weights)
        if len(positive):
            encoded = self.bbox_coder.encode(anchors[positive], boxes[owner])
            deltas[positive], delta_weights[positive] = encoded, 1.0
            directions[positive] = get_direction_target(
                anchors[positive], encoded, self.dir_offset, self.dir_limit_offset, one_hot=False
            )
            direction_weights[positive] = 1.0
        negatives = int((owners == 0).sum())
        return labels, weights, deltas, delta_weights, directions, direction_weights, len(positive), negatives

    def _best_of_level(
        self, logits: Tensor, deltas: Tensor, directions: Tensor, priors: Tensor, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns boxes (N, D), scores (N, K) and direction bins (N,) of the `count` best anchors (all if < 1)."""
        logits = logits.permute(1, 2, 0).reshape(-1, self.num_classes)
        deltas = deltas.permute(1, 2, 0).reshape(-1, self.box_code_size)
        directions = directions.permute(1, 2, 0).reshape(-1, 2)
        if 0 < count < len(logits):
            best = logits.amax(1).topk(count).indices
            logits, deltas, directions, priors = logits[best], deltas[best], directions[best], priors[best]
        return self.bbox_coder.decode(priors, deltas.float()), logits.float().sigmoid(), directions.argmax(1)
