"""Test-time augmentation of segmentation: class probabilities of several views of a cloud, averaged point by point."""

from __future__ import annotations

from typing import Any

import torch
from mmdet3d.models.segmentors import Seg3DTTAModel
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from perception3d.checks import InputError
from perception3d.registry import MODELS


@MODELS.register_module()
class PointSegTTAModel(Seg3DTTAModel):
    """Runs a segmentor on every view of `PointViews` and averages the probabilities of each point.

    It computes what mmdet3d's Seg3DTTAModel does, with these differences: probabilities are added up view by view, so
    that memory does not grow with their number (36 views of 123,000 points and 19 classes are 340 MB of logits), they
    are float32 under autocast too, and the merged sample is that of the stored cloud. A `Distiller` works as its
    student does.

    Args:
        module: the segmentor, or its config.
        data_preprocessor: as of mmengine's class.

    Raises:
        InputError: the model keeps no logits of points.
    """

    def __init__(self, module: Any, data_preprocessor: Any = None) -> None:
        super().__init__(module, data_preprocessor)
        keepers: list[Any] = [part for part in self.module.modules() if hasattr(part, 'keep_logits')]
        if not keepers:
            raise InputError(
                f'PointSegTTAModel averages logits of points, but {type(self.module).__name__} has no attribute '
                'keep_logits: take a PointSegmentor'
            )
        for part in keepers:
            part.keep_logits = True

    def test_step(self, data: dict[str, Any]) -> list[Det3DDataSample]:
        """Returns one sample with `pred_pts_seg` for each cloud, from the lists of views in `data`."""
        merged: list[Det3DDataSample] = []
        sums: list[Tensor] = []
        for number in range(len(data['inputs'])):
            view: Any = {key: values[number] for key, values in data.items()}
            samples = self.module.test_step(view)
            probabilities = [_probabilities(sample) for sample in samples]
            if not merged:
                merged, sums = samples, probabilities
                continue
            for total, own in zip(sums, probabilities, strict=True):
                total += own
        for sample, total in zip(merged, sums, strict=True):
            sample.pred_pts_seg.pts_semantic_mask = total.argmax(0)
            # The labels are those of the stored cloud, whatever the first view did to it.
            sample.set_metainfo(dict(transformation_3d_flow=[]))
        return merged


def _probabilities(sample: Any) -> Tensor:
    """Takes the logits (K, N) from a sample and returns their softmax."""
    logits: Tensor = sample.pts_seg_logits.pts_seg_logits
    del sample.pts_seg_logits
    return torch.softmax(logits.float(), 0)
