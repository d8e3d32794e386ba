"""IoU by the rules of nuScenes-lidarseg, and the tables of its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perception3d.evaluation.point_iou import Counts, IouScores
from perception3d.formats.nuscenes_lidarseg.files import CLASSES


@dataclass(frozen=True)
class LidarsegScores(IouScores):
    """Scores in 0..1; NaN where there is nothing to divide by.

    Those of IouScores, where `iou` is NaN for a class that occurs neither in the truth nor in the predictions, and
    `miou` is the mean over the others; fwiou: IoU weighted by the share of annotated points.
    """

    fwiou: float

    def means(self) -> dict[str, float]:
        """Returns the scores over all classes, by the names that they have in logs."""
        return {**super().means(), 'fwiou': self.fwiou}

    def to_json(self, classes: Sequence[str] = CLASSES) -> dict[str, Any]:
        """Returns {'miou', 'fwiou', 'iou': {class: x}}, None for NaN."""
        iou = {name: _finite(value) for name, value in zip(classes, self.iou.tolist())}
        return {'miou': _finite(self.miou), 'fwiou': _finite(self.fwiou), 'iou': iou}


def lidarseg_scores(confusion: Counts) -> LidarsegScores:
    """Returns the scores of a confusion matrix (K + 1, K + 1), see `evaluation.point_iou.count_confusion`.

    Points without an annotated class are left out. The numbers are bit for bit those of the devkit's `LidarSegEval`
    (eval/lidarseg/utils.py, ConfusionMatrix): it divides by a float32 union, and has a row for ignored points, whose
    IoU is NaN, before those of the classes; sums are rounded by the place of their terms.
    """
    counts = confusion[:-1, :-1]
    right, annotated = np.diagonal(counts), counts.sum(axis=0)
    union = annotated + counts.sum(axis=1) - right
    with np.errstate(divide='ignore', invalid='ignore'):
        iou = right / union.astype(np.float32)
        weighted = np.nansum(np.append(0.0, annotated * iou)) / counts.sum()
        accuracy = float(right.sum() / counts.sum())
    # nanmean warns where there is nothing to average.
    miou = float('nan') if np.isnan(iou).all() else float(np.nanmean(np.append(np.nan, iou)))
    return LidarsegScores(miou, accuracy, iou, float(weighted))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def table(scores: Mapping[str, Any]) -> str:
    """Returns the text of scores as `evaluate` writes them, in percent."""
    lines = []
    if 'miou' in scores:
        lines += [f'{name:<22}{_percent(value):>8}' for name, value in scores['iou'].items()]
        lines += [f'{"mIoU":<22}{_percent(scores["miou"]):>8}', f'{"fwIoU":<22}{_percent(scores["fwiou"]):>8}']
    if 'panoptic' in scores:
        panoptic = scores['panoptic']
        keys = ('pq', 'sq', 'rq', 'iou')
        lines += [f'{"panoptic":<22}' + ''.join(f'{key.upper():>8}' for key in keys)]
        for name, row in panoptic['classes'].items():
            lines.append(f'{name:<22}' + ''.join(f'{_percent(row[key]):>8}' for key in keys))
        mean = {**panoptic, 'iou': panoptic['miou']}
        lines.append(f'{"mean":<22}' + ''.join(f'{_percent(mean[key]):>8}' for key in keys))
        lines.append(f'{"PQ dagger":<22}{_percent(panoptic["pq_dagger"]):>8}')
    return '\n'.join(lines)


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{100 * value:.2f}'
