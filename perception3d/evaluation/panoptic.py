"""Panoptic quality of points: segments matched by IoU, by the rules of the official tools for point clouds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint64]
LabelOf = Callable[[Ids], npt.NDArray[np.int64]]
_EPSILON = 1e-15


@dataclass(frozen=True)
class SegmentPairs:
    """Which annotated segment met which predicted one in a scan, M pairs.

    truth, predicted (M,): numbers of the segments; points (M,): how many points are in both.
    """

    truth: npt.NDArray[Any]
    predicted: npt.NDArray[Any]
    points: npt.NDArray[np.int64]

    def merged(self) -> SegmentPairs:
        """Returns each pair once, sorted by the annotated segment, then by the predicted one."""
        each = self.truth.astype(np.uint64) << np.uint64(32) | self.predicted.astype(np.uint64)
        keys, key_of = np.unique(each, return_inverse=True)
        points = np.bincount(key_of, self.points, len(keys)).astype(np.int64)
        return SegmentPairs(keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF), points)


def count_runs(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> SegmentPairs:
    """Returns a pair for each run of points (N,) of the same two segments, in the order of the points.

    Neighbours of a scan are mostly of the same segments: to count runs is twice as fast as to count points, to sort
    them six times.
    """
    starts = np.flatnonzero((predicted[1:] != predicted[:-1]) | (truth[1:] != truth[:-1])) + 1
    if len(truth):
        starts = np.append(0, starts)
    return SegmentPairs(truth[starts], predicted[starts], np.diff(starts, append=len(truth)))


def count_pairs(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> SegmentPairs:
    """Returns the pairs of the segments (N,) that the points of a scan belong to, each once, sorted."""
    return count_runs(predicted, truth).merged()


@dataclass
class PanopticCounts:
    """Matched and missed segments of K classes, added up scan by scan.

    A segment is the set of the points of a scan that have the same number. It belongs to one class. Points whose
    annotated class is not scored are left out. An annotated and a predicted segment of a class match if their IoU is
    more than 0.5. Segments of fewer than `min_points` points that match nothing are left out.

    Source: Kirillov et al., Panoptic Segmentation, CVPR 2019. The numbers are bit for bit those of `PanopticEval` of
    semantic-kitti-api; unlike there, objects may have numbers of 32768 and more in their upper 16 bits.
    """

    num_classes: int
    min_points: int
    matched: npt.NDArray[np.int64] = field(init=False)
    missed: npt.NDArray[np.int64] = field(init=False)
    wrong: npt.NDArray[np.int64] = field(init=False)
    iou_sum: npt.NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.matched, self.missed, self.wrong = (np.zeros(self.num_classes, np.int64) for _ in range(3))
        self.iou_sum = np.zeros(self.num_classes)

    def add(self, pairs: SegmentPairs, label_of: LabelOf, predicted_label_of: LabelOf | None = None) -> None:
        """Adds a scan.

        Args:
            pairs: of `count_pairs`.
            label_of: gives the classes of segments, by their numbers, outside of 0..K-1 for none.
            predicted_label_of: the same for predicted segments, where their numbers mean something else.
        """
        labels = label_of(pairs.truth)
        scored = (labels >= 0) & (labels < self.num_classes)
        labels, points = labels[scored], pairs.points[scored]
        truth, truth_of = np.unique(pairs.truth[scored], return_inverse=True)
        predicted, predicted_of = np.unique(pairs.predicted[scored], return_inverse=True)
        truth_points = np.bincount(truth_of, points, len(truth))
        predicted_points = np.bincount(predicted_of, points, len(predicted))
        predicted_labels = (predicted_label_of or label_of)(predicted)
        iou = points / (truth_points[truth_of] + predicted_points[predicted_of] - points)
        match = (labels == predicted_labels[predicted_of]) & (iou > 0.5)
        for label in np.unique(labels[match]):
            # Summed scan by scan, in the order of the segments, as in the official tool: floats depend on it.
            self.iou_sum[label] += np.sum(iou[match & (labels == label)])
        self.matched += np.bincount(labels[match], minlength=self.num_classes)
        self.missed += self._unmatched(label_of(truth), truth_points, truth_of[match])
        self.wrong += self._unmatched(predicted_labels, predicted_points, predicted_of[match])

    def _unmatched(
        self, labels: npt.NDArray[np.int64], points: npt.NDArray[Any], matched: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.int64]:
        """Returns how many segments of each class have no partner and enough points."""
        counted = (points >= self.min_points) & (labels >= 0) & (labels < self.num_classes)
        counted[matched] = False
        return np.bincount(labels[counted], minlength=self.num_classes)

    def quality(self) -> PanopticQuality:
        """Returns the scores of each class."""
        segmentation = self.iou_sum / np.maximum(self.matched.astype(np.float64), _EPSILON)
        half = 0.5 * self.wrong + 0.5 * self.missed
        recognition = self.matched / np.maximum(self.matched + half, _EPSILON)
        return PanopticQuality(segmentation * recognition, segmentation, recognition)


@dataclass(frozen=True)
class PanopticQuality:
    """Scores in 0..1 of each of K classes: panoptic, segmentation and recognition quality; 0 where nothing matched."""

    pq: npt.NDArray[np.float64]
    sq: npt.NDArray[np.float64]
    rq: npt.NDArray[np.float64]
