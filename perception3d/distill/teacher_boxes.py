"""Label distillation of SparseKD: the teacher's confident boxes as additional ground truth (arXiv 2205.15156)."""

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
    """Adds the teacher's predicted boxes above a score to the ground truth, before targets are assigned.

    As in the released code, the teacher's boxes come first and the annotated ones after them, and overlapping boxes all
    stay: where two boxes compete for a cell of a centre head, the annotated one is drawn last.

    Args:
        score_thr: one threshold for all classes, or one per class in the order of the labels; 0.6 in the released
            recipes.
    """

    def __init__(self, score_thr: float | Sequence[float] = 0.6) -> None:
        super().__init__()
        self.score_thr = score_thr if isinstance(score_thr, (int, float)) else tuple(score_thr)

    def forward(self, samples: Sequence[Any], predictions: Sequence[Any]) -> list[Any]:
        """Returns copies of `samples` with the teacher's boxes in `gt_instances_3d`; `samples` are not changed.

        Raises:
            InputError: a class without threshold, or boxes with another number of values than the annotated ones.
        """
        return [self._joined(sample, pred.pred_instances_3d) for sample, pred in zip(samples, predictions)]

    def _joined(self, sample: Any, pred: Any) -> Any:
        annotated = sample.gt_instances_3d
        boxes, labels, scores = pred.bboxes_3d, pred.labels_3d, pred.scores_3d
        threshold: Any = self.score_thr
        if isinstance(threshold, tuple):
            if len(labels) and int(labels.max()) >= len(threshold):
                raise InputError(
                    f'score_thr has {len(threshold)} thresholds, but the teacher predicts class {int(labels.max())}: '
                    'expected '
                    'one threshold for each class'
                )
            threshold = scores.new_tensor(threshold)[labels]
        confident = scores > threshold
        if boxes.box_dim != annotated.bboxes_3d.box_dim:
            raise InputError(
                f"the teacher's boxes have {boxes.box_dim} values and the annotated ones "
                f'{annotated.bboxes_3d.box_dim}: '
                'train teacher and student both with velocity or both without'
            )
        joined = InstanceData()
        joined.bboxes_3d = type(annotated.bboxes_3d).cat(
            [boxes[confident].to(annotated.labels_3d.device), annotated.bboxes_3d]
        )
        joined.labels_3d = torch.cat([labels[confident].to(annotated.labels_3d), annotated.labels_3d])
        copy = sample.new()
        copy.gt_instances_3d = joined
        return copy
