"""CULane's precision, recall and F1 of lanes, by the rules of its official tool (SCNN, tools/lane_evaluation)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.evaluation.lane_drawing import draw_lane, lane_ious
from perception3d.evaluation.lane_matching import match_lanes

Lane = npt.NDArray[Any]
MAIN_IOU = 0.5
"""The threshold whose F1 is reported for CULane."""
_WIDEST_PX = 32767


@dataclass(frozen=True)
class LaneRule:
    """How lanes are scored.

    Attributes:
        size_wh: width and height of the image, pixels.
        thresholds: a lane is found where its IoU with its match is above; each is counted on its own.
        width_px: of the bands that lanes are drawn as.

    Raises:
        InputError: a value is out of range.
    """

    size_wh: tuple[int, int]
    thresholds: tuple[float, ...] = (MAIN_IOU,)
    width_px: int = 30

    @property
    def main(self) -> int:
        """The number of the threshold that stands for all: 0.5, or the first one."""
        return self.thresholds.index(MAIN_IOU) if MAIN_IOU in self.thresholds else 0

    def __post_init__(self) -> None:
        if min(self.size_wh) < 1:
            raise InputError(f'an image of {self.size_wh[0]}x{self.size_wh[1]} pixels has no lanes: give its size')
        if not self.thresholds or not all(0 <= threshold < 1 for threshold in self.thresholds):
            raise InputError(f'thresholds of IoU are 0 or more and below 1, got {list(self.thresholds)}')
        if not 1 <= self.width_px <= _WIDEST_PX:
            raise InputError(f'lanes are drawn 1 to {_WIDEST_PX} pixels wide, got {self.width_px}')


@dataclass(frozen=True)
class LaneCounts:
    """Lanes of an image, or of many: annotated, predicted, and for each threshold of the rule those that are found."""

    annotated: int
    predicted: int
    found: tuple[int, ...]

    def at(self, k: int) -> tuple[int, int, int]:
        """Returns true positives, false positives and false negatives at the k-th threshold."""
        return self.found[k], self.predicted - self.found[k], self.annotated - self.found[k]


def count_lanes(annotated: Sequence[Lane], predicted: Sequence[Lane], rule: LaneRule) -> LaneCounts:
    """Counts the lanes of one image.

    Args:
        annotated, predicted: lanes (M, 2), x and y in pixels of the image; M may be 0 or 1: such a lane is never found,
            and counts.
        rule: how.
    """
    found = [0] * len(rule.thresholds)
    if annotated and predicted:
        rows, columns = (
            [draw_lane(lane, rule.size_wh, rule.width_px) for lane in lanes] for lanes in (annotated, predicted)
        )
        ious = lane_ious(rows, columns)
        matched = [ious[row, column] for row, column in enumerate(match_lanes(ious)) if column >= 0]
        found = [sum(bool(iou > threshold) for iou in matched) for threshold in rule.thresholds]
    return LaneCounts(len(annotated), len(predicted), tuple(found))


def add_counts(counts: Iterable[LaneCounts], rule: LaneRule) -> LaneCounts:
    """Returns the sum over images; the scores of a data set are those of the sum, not a mean over its parts."""
    total = np.zeros(2 + len(rule.thresholds), np.int64)
    for each in counts:
        total += (each.annotated, each.predicted, *each.found)
    annotated, predicted, *found = total.tolist()
    return LaneCounts(annotated, predicted, tuple(found))


def lane_scores(counts: LaneCounts, k: int) -> dict[str, Any]:
    """Returns `tp`, `fp`, `fn`, `precision`, `recall`, `f1` at the k-th threshold, as the official tool has them.

    The precision is -1 where nothing is predicted, the recall -1 where nothing is annotated, and F1 is computed of
    them: -1 where there is neither, 0 where one of the two is missing. Where lanes are annotated and predicted, and
    none is found, F1 is 0 / 0: the tool prints nan, and here it is None.
    """
    tp, fp, fn = counts.at(k)
    precision = tp / (tp + fp) if tp + fp else -1.0
    recall = tp / (tp + fn) if tp + fn else -1.0
    # -0 / -1 is 0: the sum of 0 and -1.
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else None
    return {'tp': tp, 'fp': fp, 'fn': fn, 'precision': precision, 'recall': recall, 'f1': f1}


def lane_report(
    counts: Iterable[LaneCounts], rule: LaneRule, groups: Mapping[str, Iterable[LaneCounts]] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Returns the scores of images, and the lines of their table.

    The scores are threshold, such as '0.5' -> `lane_scores` of all images. With groups also `categories`: group -> the
    same at the threshold 0.5, or at the first where that is not asked for; and of several thresholds
    `categories_by_iou`: threshold -> group -> the same.

    Args:
        counts: of each image.
        rule: by which they were counted.
        groups: name -> counts of its images, which need not be among `counts`.
    """
    names = [f'{threshold:g}' for threshold in rule.thresholds]
    total = add_counts(counts, rule)
    sums = {name: add_counts(members, rule) for name, members in (groups or {}).items()}
    scores: dict[str, Any] = {name: lane_scores(total, k) for k, name in enumerate(names)}
    lines = [_TABLE_HEAD, *(_line(f'all, IoU {name}', scores[name]) for name in names)]
    if sums:
        by_iou = {name: {group: lane_scores(found, k) for group, found in sums.items()} for k, name in enumerate(names)}
        scores['categories'] = by_iou[names[rule.main]]
        if len(names) > 1:
            scores['categories_by_iou'] = by_iou
        for name, found in by_iou.items():
            lines += [f'IoU {name}', *(_line(group, each) for group, each in found.items())]
    return scores, lines


def _line(name: str, scores: dict[str, Any]) -> str:
    rates = [scores[key] for key in ('precision', 'recall', 'f1')]
    texts = ['-' if rate is None or rate < 0 else f'{100 * rate:.2f}' for rate in rates]
    counts = ''.join(f'{scores[key]:>9}' for key in ('tp', 'fp', 'fn'))
    return f'{name:<16}{counts}' + ''.join(f'{text:>11}' for text in texts)


_TABLE_HEAD = ''.join([
    f'{"lanes":<16}', *(f'{name:>9}' for name in ('TP', 'FP', 'FN')),
    *(f'{name:>11}' for name in ('precision', 'recall', 'F1')),
])  # fmt: skip
