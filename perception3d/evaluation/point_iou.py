"""Confusion matrices over points, and the IoU of classes by the rules of SemanticKITTI's official tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
# What the official tool adds to a count before it divides.
_EPSILON = 1e-15


def count_confusion(predicted: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], num_classes: int) -> Counts:
    """Returns how many points of each annotated class were predicted as each class.

    Args:
        predicted: (N,) labels; all outside of the classes count as one more class, "none".
        truth: (N,) labels, likewise: there "none" are the points that are not scored.
        num_classes: K.

    Returns:
        (K + 1, K + 1) counts: rows predicted, columns annotated, "none" last.
    """
    pairs = _within(predicted, num_classes) * (num_classes + 1) + _within(truth, num_classes)
    counts = np.bincount(pairs, minlength=(num_classes + 1) ** 2)
    return counts.reshape(num_classes + 1, num_classes + 1)


def _within(labels: npt.NDArray[np.int64], num_classes: int) -> npt.NDArray[np.int64]:
    return np.where((labels >= 0) & (labels < num_classes), labels, num_classes)


@dataclass(frozen=True)
class IouScores:
    """Scores in 0..1: mean IoU, accuracy, IoU of each of K classes (K,)."""

    miou: float
    accuracy: float
    iou: npt.NDArray[np.float64]

    def means(self) -> dict[str, float]:
        """Returns the scores over all classes, by the names that they have in logs."""
        return {'miou': self.miou, 'accuracy': self.accuracy}


def kitti_iou(confusion: Counts) -> IouScores:
    """Returns the scores of a confusion matrix (K + 1, K + 1), see `count_confusion`, as SemanticKITTI defines them.

    Points without an annotated class are left out. A point that is predicted as "none" is a false negative of its
    class. A class that occurs neither in the truth nor in the predictions has IoU 0, and counts in the mean. The
    numbers are bit for bit those of `evaluate_semantics.py` of semantic-kitti-api.
    """
    counts = confusion[:, :-1]
    right = np.diagonal(counts)
    predicted, annotated = counts.sum(axis=1)[:-1], counts.sum(axis=0)
    false_positive, false_negative = predicted - right, annotated - right
    iou = right / (right + false_positive + false_negative + _EPSILON)
    accuracy = right.sum() / (right.sum() + false_positive.sum() + _EPSILON)
    return IouScores(float(iou.mean()), float(accuracy), iou)


def distances(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the distances (N,) float32 of points (N, 3 or more) from the sensor, rounded as in the official tool."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    return np.sqrt(x * x + y * y + z * z)


def iou_table(classes: Sequence[str], scores: IouScores, confusion: Counts) -> list[str]:
    """Returns the lines of a table in percent, with the annotated points of each class."""
    points = confusion.sum(axis=0)
    width = max(map(len, classes), default=0) + 2
    lines = [f'{"class":<{width}}{"IoU":>8}{"points":>14}']
    lines += [f'{name:<{width}}{100 * iou:>8.2f}{count:>14}' for name, iou, count in zip(classes, scores.iou, points)]
    lines.append(f'{"mean IoU":<{width}}{100 * scores.miou:>8.2f}{points[:-1].sum():>14}')
    lines.append(f'{"accuracy":<{width}}{100 * scores.accuracy:>8.2f}')
    return lines
