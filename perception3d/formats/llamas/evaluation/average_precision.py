"""Average precision of the pixels of a class, as LLAMAS' own segmentation tool has it."""

from __future__ import annotations

import numpy as np

from perception3d.formats.llamas.files import Mask

_STEPS = 100


def average_precision(truth: Mask, probability: Mask) -> float:
    """Returns the area under the curve of precision and recall of an image, in 0..1.

    The curve has 101 points, at the probabilities 1, 0.99, .., 0; the area between two is their difference in recall
    times the precision of the first, which before all is 1. Where the class is not annotated the area is 0, and counts
    so in the mean over images. Source: `binary_approx_auc` in `evaluation/segmentation_metrics.py` of
    karstenBehrendt/unsupervised_llamas, whose numbers these are to the last bit: pixels are counted by their 256 values
    in place of 101 comparisons of the image.

    Args:
        truth: (H, W), not 0 on the class.
        probability: (H, W), 255 for 1.
    """
    total = np.bincount(probability.ravel(), minlength=256)
    hits = np.bincount(probability[truth != 0], minlength=256)
    values = np.arange(256) / 255
    area, precision, recall = 0.0, 1.0, 0.0
    annotated = int(hits.sum())
    for step in range(_STEPS + 1):
        first = int(np.searchsorted(values, (_STEPS - step) / _STEPS))
        found, predicted = int(hits[first:].sum()), int(total[first:].sum())
        now = found / annotated if annotated else 0.0
        area += (now - recall) * precision
        precision, recall = found / predicted if predicted else 0.0, now
    return area
