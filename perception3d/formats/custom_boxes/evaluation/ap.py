"""Average precision of 3D boxes in the LiDAR frame: no camera, no image boxes, no difficulty. It needs no torch.

Two measures. By overlap: IoU in the bird's-eye view or in space must exceed a threshold a class; precision is
interpolated (the best at this recall or more) and averaged over the 40 recalls 1/40 .. 1, as KITTI's R40, but from all
scores, so that few objects also reach 100. By distance: centres in the plane must be closer than 0.5, 1, 2 and 4 m;
precision is interpolated linearly at 101 recalls, of which those above 0.1 count, less 0.1, as nuScenes does
(detection_cvpr_2019; Caesar et al. 2020, section 4.1).

Matching is greedy: in order of falling score each detection takes the best object of its class and frame that is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from perception3d.checks import InputError
from perception3d.geometry.overlap import overlap_area, prepare

DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
_LEAST_RECALL, _LEAST_PRECISION = 0.1, 0.1


@dataclass(frozen=True)
class LidarBoxes:
    """The boxes of F frames, one frame after another.

    boxes (N, 7) x, y, z of the bottom's middle, l, w, h, yaw, metres and radians; labels (N,) class index, below 0
    where an object is to be left out; starts (F + 1,): frame f has the rows starts[f] to starts[f + 1]; scores (N,) of
    detections.
    """

    boxes: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    starts: npt.NDArray[Any]
    scores: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class LidarScores:
    """AP in percent, NaN for a class without objects.

    bev, space: (C,) by IoU; distance: (C, 4) by DISTANCES_M; objects, detections: (C,) numbers.
    """

    bev: npt.NDArray[Any]
    space: npt.NDArray[Any]
    distance: npt.NDArray[Any]
    objects: npt.NDArray[Any]
    detections: npt.NDArray[Any]


def lidar_scores(
    truth: LidarBoxes,
    found: LidarBoxes,
    iou_thresholds: Sequence[float],
    range_bins_m: Sequence[tuple[float, float]] = (),
) -> list[LidarScores]:
    """Returns the scores of all ranges, then of each range bin.

    Args:
        truth, found: objects and scored detections of the same frames.
        iou_thresholds: (C,) IoU that a match of each class must exceed.
        range_bins_m: (low, high) in metres from the LiDAR in the plane, low <= range < high. A matched detection
            belongs to the bin of its object, a false one to its own.

    Raises:
        InputError: NaN or infinity in a box or score, or tables of different frames.
    """
    thresholds = np.asarray(iou_thresholds, np.float64)
    _check(truth, 'objects', len(thresholds))
    _check(found, 'detections', len(thresholds))
    if len(truth.starts) != len(found.starts):
        raise InputError(f'{len(truth.starts) - 1} frames of objects, but {len(found.starts) - 1} of detections')
    assert found.scores is not None
    bounds = np.stack([thresholds, thresholds, *(np.full(len(thresholds), distance) for distance in DISTANCES_M)])
    frame_of = np.repeat(np.arange(len(found.starts) - 1), np.diff(found.starts))
    matches = _match(_rows(truth), _rows(found), np.lexsort((-found.scores, frame_of)), bounds)
    order = np.argsort(-found.scores, kind='stable')
    true_range, own_range = (np.hypot(table.boxes[:, 0], table.boxes[:, 1]) for table in (truth, found))
    return [
        _scores_of_bin(
            (true_range >= low) & (true_range < high),
            (own_range >= low) & (own_range < high),
            truth.labels,
            found.labels,
            order,
            matches,
            len(thresholds),
        )
        for low, high in [(0.0, np.inf), *range_bins_m]
    ]


def _check(table: LidarBoxes, what: str, classes: int) -> None:
    for name, values in (('box', table.boxes), ('score', table.scores)):
        if values is not None and not np.isfinite(values).all():
            row = np.argwhere(~np.isfinite(values))[0, 0]
            frame = np.searchsorted(table.starts, row, 'right') - 1
            raise InputError(f'a {name} of the {what} of frame {frame} is not finite')
    lowest = -np.inf if table.scores is None else 0
    if len(table.labels) and not (lowest <= table.labels.min() and table.labels.max() < classes):
        wrong = table.labels.max() if table.labels.max() >= classes else table.labels.min()
        raise InputError(f'the {what} hold label {wrong}, there are {classes} classes from 0')


class _Rows(NamedTuple):
    """The boxes of all frames as rows of `prepare`, with their labels and the rows at which frames start."""

    boxes: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    starts: npt.NDArray[Any]


def _rows(table: LidarBoxes) -> _Rows:
    boxes = np.asarray(table.boxes, np.float64)
    rows = prepare(np.ascontiguousarray(boxes[:, [0, 1, 3, 4, 6]]), boxes[:, 2].copy(), boxes[:, 2] + boxes[:, 5])
    return _Rows(rows, table.labels.astype(np.int64), table.starts.astype(np.int64))


@njit(cache=True, nogil=True, error_model='numpy')
def _match(truth: _Rows, pred: _Rows, order: npt.NDArray[Any], bounds: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns the object of each detection, or -1, by measure: (K, M).

    `order` (M,) is by frame, then falling score; `bounds` (K, C): IoU in the bird's-eye view, IoU in space, then
    distances in metres.
    """
    measures = bounds.shape[0]
    matches = np.full((measures, pred.boxes.shape[0]), -1, np.int64)
    taken = np.zeros((measures, truth.boxes.shape[0]), np.bool_)
    poly, spare = np.empty((12, 2)), np.empty((12, 2))
    best, best_value, value = np.empty(measures, np.int64), np.empty(measures), np.empty(measures)
    for frame in range(pred.starts.shape[0] - 1):
        for place in range(pred.starts[frame], pred.starts[frame + 1]):
            j = order[place]
            label = pred.labels[j]
            for k in range(measures):
                best[k], best_value[k] = -1, bounds[k, label] if k < 2 else -bounds[k, label]
            for i in range(truth.starts[frame], truth.starts[frame + 1]):
                if truth.labels[i] != label:
                    continue
                a, b = truth.boxes[i], pred.boxes[j]
                area = overlap_area(a, b, poly, spare)
                common = area * max(0.0, min(a[8], b[8]) - max(a[7], b[7]))
                value[0] = area / (4.0 * (a[2] * a[3] + b[2] * b[3]) - area) if area > 0.0 else 0.0
                value[1] = common / (a[9] + b[9] - common) if common > 0.0 else 0.0
                for k in range(2, measures):
                    value[k] = -math.hypot(a[0] - b[0], a[1] - b[1])
                for k in range(measures):
                    if not taken[k, i] and value[k] > best_value[k]:
                        best[k], best_value[k] = i, value[k]
            for k in range(measures):
                if best[k] >= 0:
                    matches[k, j] = best[k]
                    taken[k, best[k]] = True
    return matches


def _scores_of_bin(
    true_inside: npt.NDArray[Any],
    own_inside: npt.NDArray[Any],
    truth_labels: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    order: npt.NDArray[Any],
    matches: npt.NDArray[Any],
    classes: int,
) -> LidarScores:
    """Scores of the objects `true_inside` (N,), with the detections matched to them and the false ones `own_inside`."""
    aps = np.full((len(matches), classes), np.nan)
    objects = np.array([(true_inside & (truth_labels == label)).sum() for label in range(classes)])
    for label in np.flatnonzero(objects):
        rows = order[labels[order] == label]
        for k, match in enumerate(matches[:, rows]):
            hit = match >= 0
            inside = own_inside[rows]
            inside[hit] = true_inside[match[hit]]
            average = interpolated_ap if k < 2 else nuscenes_ap
            aps[k, label] = average(hit[inside], int(objects[label]))
    detections = np.array([(own_inside & (labels == label)).sum() for label in range(classes)])
    return LidarScores(aps[0], aps[1], aps[2:].T, objects, detections)


def interpolated_ap(hits: npt.NDArray[Any], objects: int) -> float:
    """AP in percent at 40 recalls of detections by falling score, of which `hits` (M,) are true, for `objects` > 0."""
    found = np.cumsum(hits)
    precision = np.maximum.accumulate((found / np.arange(1, len(hits) + 1))[::-1])[::-1]
    # In whole numbers, so that a recall of exactly k/40 is reached.
    needed = -(-np.arange(1, 41) * objects // 40)
    return float(np.append(precision, 0.0)[np.searchsorted(found, needed)].sum() / 40 * 100)


def nuscenes_ap(hits: npt.NDArray[Any], objects: int) -> float:
    """AP in percent as in nuScenes of detections by falling score, of which `hits` (M,) are true, for `objects` > 0."""
    if not hits.any():
        return 0.0
    found = np.cumsum(hits)
    recalls = np.linspace(0, 1, 101)
    precision = np.interp(recalls, found / objects, found / np.arange(1, len(hits) + 1), right=0)
    counted = precision[round(100 * _LEAST_RECALL) + 1 :] - _LEAST_PRECISION
    return float(counted.clip(0).mean() / (1 - _LEAST_PRECISION) * 100)
