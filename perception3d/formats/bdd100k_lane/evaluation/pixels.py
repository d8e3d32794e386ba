"""Pixel accuracy and IoU of lanes as the SAD paper reports them on BDD100K."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def pixel_scores(truth: Mask, predicted: Mask) -> tuple[float, float]:
    """Returns accuracy and IoU of the lane pixels of an image, in 0..1.

    Accuracy is the share of annotated lane pixels that are predicted, so it is a recall. IoU is that of the lane class.
    Both are 0 where the image has no annotated lane, and such images count in the means. Predictions are about 8 pixels
    wide and annotations 2, so IoU is low. Source: the training script of the authors' release for BDD100K (Hou et al.,
    Learning Lightweight Lane Detection CNNs by Self Attention Distillation, ICCV 2019), as the reference sheet of this
    project tells its rules.

    Args:
        truth, predicted: (H, W), true on lanes.
    """
    annotated = int(np.count_nonzero(truth))
    if not annotated:
        return 0.0, 0.0
    both = int(np.count_nonzero(truth & predicted))
    union = annotated + int(np.count_nonzero(predicted)) - both
    return both / annotated, both / union


def mean_scores(images: Iterable[tuple[float, float]]) -> dict[str, float]:
    """Returns `accuracy` and `iou`, the means over all images."""
    accuracy, iou = np.asarray(list(images), np.float64).reshape(-1, 2).mean(axis=0)
    return {'accuracy': float(accuracy), 'iou': float(iou)}
