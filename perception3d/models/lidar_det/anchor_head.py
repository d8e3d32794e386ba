"""mmdet3d's anchor head without the work that its results do not need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet3d.models.dense_heads import Anchor3DHead
from mmdet3d.models.layers import box3d_multiclass_nms
from mmdet3d.structures import limit_period, xywhr2xyxyr
from mmengine.structures import InstanceData
from torch import Tensor

from perception3d.registry import MODELS


class _KeptAnchors:
    """A generator of anchors that makes the anchors of a map size once."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self._kept: dict[tuple, list[Tensor]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def __getstate__(self) -> dict:
        return {'_generator': self._generator, '_kept': {}}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)

    def grid_anchors(self, featmap_sizes: Sequence[Any], device: Any = 'cuda') -> list[Tensor]:
        """Returns the anchors of each level for maps of these sizes; nobody may write into them."""
        key = (*(tuple(size) for size in featmap_sizes), str(device))
        if key not in self._kept:
            self._kept[key] = self._generator.grid_anchors(featmap_sizes, device=device)
        return self._kept[key]


@MODELS.register_module()
class FastAnchor3DHead(Anchor3DHead):
    """Anchor3DHead that keeps its anchors and decodes only the best ones.

    The `nms_pre` best anchors are chosen by their logits, and only theirs are turned into scores, directions and boxes:
    the same boxes as mmdet3d's, which turns all of them first. Arguments are those of mmdet3d's class.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prior_generator = _KeptAnchors(self.prior_generator)

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
