"""Label distillation of SparseKD: the teacher's sure boxes as further ground truth (arXiv 2205.15156)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import nn

from perception3d.checks import InputError
from perception3d.registry import MODELS


@MODELS.register_module()
class TeacherBoxes(nn.Module):
    """Joins the boxes that a teacher predicts above a score to the ground truth, before targets are assigned.

    As the released code does, the teacher's boxes come first and the annotated ones after them, and no box is left out
    for lying on another: where two compete for a cell of a centre head, the annotated one is drawn last.

    Args:
        score_thr: for all classes, or one each in the order of the labels; 0.6 in the released recipes.
    """

    def __init__(self, score_thr: float | Sequence[float] = 0.6) -> None:
        super().__init__()
        self.score_thr = score_thr if isinstance(score_thr, (int, float)) else tuple(score_thr)

    def forward(self, samples: Sequence[Any], predictions: Sequence[Any]) -> list[Any]:
        """Returns copies of `samples` with more `gt_instances_3d`; those given stay as they are.

        Raises:
            InputError: a class without threshold, or boxes of another size than the annotated ones.
        """
        return [self._joined(sample, found.pred_instances_3d) for sample, found in zip(samples, predictions)]

    def _joined(self, sample: Any, found: Any) -> Any:
        annotated = sample.gt_instances_3d
        boxes, labels, scores = found.bboxes_3d, found.labels_3d, found.scores_3d
        threshold: Any = self.score_thr
        if isinstance(threshold, tuple):
            if len(labels) and int(labels.max()) >= len(threshold):
                raise InputError(
                    f'score_thr has {len(threshold)} thresholds, but the teacher found class {labels.max()}'
                )
            threshold = scores.new_tensor(threshold)[labels]
        sure = scores > threshold
        if boxes.box_dim != annotated.bboxes_3d.box_dim:
            raise InputError(
                f"the teacher's boxes have {boxes.box_dim} numbers and the annotated {annotated.bboxes_3d.box_dim}: "
                'train both with velocity or both without'
            )
        joined = InstanceData()
        joined.bboxes_3d = type(annotated.bboxes_3d).cat(
            [boxes[sure].to(annotated.labels_3d.device), annotated.bboxes_3d]
        )
        joined.labels_3d = torch.cat([labels[sure].to(annotated.labels_3d), annotated.labels_3d])
        copy = sample.new()
        copy.gt_instances_3d = joined
        return copy
