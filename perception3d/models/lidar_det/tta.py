"""Test-time augmentation of LiDAR detectors: boxes of mirrored, rotated and scaled clouds, joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmdet3d.structures import BaseInstance3DBoxes, Det3DDataSample
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData

from perception3d.geometry.augmentation import aug_from_lidar, move_boxes
from perception3d.geometry.boxes import to_bev
from perception3d.ops.nms import nms_rotated
from perception3d.registry import MODELS


@MODELS.register_module()
class LidarTTAModel(BaseTTAModel):
    """Runs a detector on several views of a cloud, takes each view's boxes back and suppresses doubles class by class.

    The views come from `mmcv.transforms.TestTimeAug` over `RandomFlip3D` and `GlobalRotScaleTrans`; what they did is in
    the samples' meta data. A box is dropped if a better one of its class overlaps it by more than `iou_thr` in the
    bird's-eye view.

    Args:
        module: the detector, or its config.
        iou_thr: of bird's-eye views.
        max_num: boxes kept per sample.
    """

    def __init__(self, module: Any, iou_thr: float = 0.2, max_num: int = 200, data_preprocessor: Any = None) -> None:
        super().__init__(module, data_preprocessor)
        self.iou_thr = iou_thr
        self.max_num = max_num

    def merge_preds(self, data_samples_list: list[list[Det3DDataSample]]) -> list[Det3DDataSample]:
        """Returns one sample of joined predictions for each cloud, from its samples of all views."""
        merged = []
        for views in data_samples_list:
            results = [view.pred_instances_3d for view in views]
            boxes = [undo_augmentation(result.bboxes_3d, view.metainfo) for result, view in zip(results, views)]
            merged.append(self._join(views[0], boxes, results))
        return merged

    def _join(
        self, sample: Det3DDataSample, boxes: list[BaseInstance3DBoxes], results: list[InstanceData]
    ) -> Det3DDataSample:
        tensor = torch.cat([view.tensor for view in boxes])
        scores = torch.cat([result.scores_3d for result in results])
        labels = torch.cat([result.labels_3d for result in results])
        kept = nms_rotated(to_bev(tensor), scores, self.iou_thr, labels)[: self.max_num]
        # The joined boxes are those of the stored cloud, whatever the first view did to it.
        sample.set_metainfo(dict(transformation_3d_flow=[]))
        sample.pred_instances_3d = InstanceData(
            bboxes_3d=boxes[0].new_box(tensor[kept]), scores_3d=scores[kept], labels_3d=labels[kept]
        )
        return sample


def undo_augmentation(boxes: BaseInstance3DBoxes, metainfo: dict) -> BaseInstance3DBoxes:
    """Returns boxes of the cloud as it was, from boxes of the augmented one; `boxes` stays as it is.

    Reads mmdet3d's `transformation_3d_flow`, see `geometry.augmentation`; InputError for an unknown step.
    """
    return boxes.new_box(move_boxes(boxes.tensor, np.linalg.inv(aug_from_lidar(metainfo))))
