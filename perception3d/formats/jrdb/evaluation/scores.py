"""JRDB's average precision of people, in space and in the stitched image, as its toolkit computes it; no torch.

The rules are those of `detection_eval/evaluate_object.cpp` of jrdb_toolkit (4fbf7d6, August 2024), a fork of KITTI's
development kit: 41 recalls, of which the first does not count, at the IoU 0.3, 0.5 and 0.7.

- Only `Pedestrian` counts, by name without case. Objects of other types are ignored: they take a detection that
  overlaps them, which is then not false.
- 3D: an object with fewer than 10 points, or further than 25 m in x and z, is ignored; one of unknown points (below 0)
  is not there at all. A detection further than 25 m, of whatever type, is ignored.
- 2D: an object of less than 500 square pixels, or with an occlusion above 2, is ignored; one whose x1 is below 0 is not
  there at all. A detection of less than 500 square pixels, of whatever type, is ignored.
- Detections of other types are not there. Those in a `DontCare` region are not false.
- Without an object that counts AP is 0.

At a threshold with neither true nor false positives the toolkit divides by zero, and its AP is NaN. Here that precision
is the best one at higher recalls, as in our KITTI score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.formats.jrdb.rules import MIN_POINTS, RANGE_M
from perception3d.formats.kitti.evaluation.kernels import FrameObjects, Pairs, curve_of_roles, find_pairs, ground_rows
from perception3d.formats.kitti.evaluation.reading import BOX_2D, OCCLUDED, OTHER, SCORE, TYPES, X, Z

OVERLAPS = (0.3, 0.5, 0.7)
METRICS = ('3d', '2d')
MIN_AREA_PX = 500.0
MAX_OCCLUSION = 2
_PEDESTRIAN, _DONTCARE = TYPES.index('pedestrian'), TYPES.index('dontcare')
_COUNTS, _IGNORED, _ABSENT = 0, 1, -1
_COLUMN = {'2d': 0, '3d': 2}


@dataclass(frozen=True)
class JrdbTable:
    """The N objects of F frames, in the order of the files.

    codes (N,): place of the type in KITTI's TYPES, or OTHER; numbers (N, 15): KITTI's columns of a result line behind
    the type; points (N,): LiDAR points, below 0 unknown; starts (F + 1,): frame f has the rows starts[f] to
    starts[f + 1].
    """

    codes: npt.NDArray[Any]
    numbers: npt.NDArray[Any]
    points: npt.NDArray[Any]
    starts: npt.NDArray[Any]


def average_precision(truth: JrdbTable, pred: JrdbTable, metric: str, spans: Sequence[slice]) -> npt.NDArray[Any]:
    """Returns AP in percent (S, 3) by OVERLAPS of spans of frames, such as all frames, then each sequence.

    Args:
        truth, pred: objects and detections of the same frames.
        metric: '3d' or '2d'.
        spans: frames start to stop.
    """
    labels, roles = _with_regions(truth, _truth_roles(truth, metric))
    found = FrameObjects(pred.codes, pred.numbers, ground_rows(pred.numbers), pred.starts)
    own_roles = _detection_roles(pred, metric)
    bounds = np.full(3, np.inf)
    bounds[_COLUMN[metric]] = OVERLAPS[0]
    counts, in_regions = np.zeros(len(labels.codes), np.int64), np.zeros((len(pred.codes), 3))
    partners, overlaps = find_pairs(labels, found, bounds, counts, in_regions)
    pairs = Pairs(np.cumsum(np.concatenate([[0], counts])), partners, overlaps, in_regions)
    out = np.zeros((len(spans), len(OVERLAPS)))
    for s, span in enumerate(spans):
        part = _part(labels, found, pairs, (roles, own_roles), span)
        for k, overlap in enumerate(OVERLAPS):
            curve, _, _ = curve_of_roles(*part[:3], part[3], part[4], (_COLUMN[metric], overlap))
            out[s, k] = 100 * curve[1:].mean()
    return out


def _truth_roles(truth: JrdbTable, metric: str) -> npt.NDArray[Any]:
    if metric == '3d':
        absent, ignored = truth.points < 0, (truth.points < MIN_POINTS) | _is_far(truth)
    else:
        absent = truth.numbers[:, BOX_2D] < 0
        ignored = (_area_px(truth) < MIN_AREA_PX) | (truth.numbers[:, OCCLUDED] > MAX_OCCLUSION)
    roles = np.where(ignored | (truth.codes != _PEDESTRIAN), _IGNORED, _COUNTS)
    return np.where(absent, _ABSENT, roles).astype(np.int8)


def _detection_roles(pred: JrdbTable, metric: str) -> npt.NDArray[Any]:
    ignored = _is_far(pred) if metric == '3d' else _area_px(pred) < MIN_AREA_PX
    roles = np.where(pred.codes == _PEDESTRIAN, _COUNTS, _ABSENT)
    return np.where(ignored, _IGNORED, roles).astype(np.int8)


def _is_far(table: JrdbTable) -> npt.NDArray[Any]:
    far: npt.NDArray[Any] = table.numbers[:, X] ** 2 + table.numbers[:, Z] ** 2 > RANGE_M**2
    return far


def _area_px(table: JrdbTable) -> npt.NDArray[Any]:
    x1, y1, x2, y2 = table.numbers[:, BOX_2D : BOX_2D + 4].T
    area: npt.NDArray[Any] = (x2 - x1) * (y2 - y1)
    return area


def _with_regions(truth: JrdbTable, roles: npt.NDArray[Any]) -> tuple[FrameObjects, npt.NDArray[Any]]:
    """Returns the objects and roles, with the DontCare regions once more at the end of each frame.

    A region is both for the toolkit: an ignored object, which takes a detection by IoU before the next object of the
    file may, and an area in which nothing is false.
    """
    regions = np.flatnonzero(truth.codes == _DONTCARE)
    frame_of = np.repeat(np.arange(len(truth.starts) - 1), np.diff(truth.starts))
    order = np.argsort(np.concatenate([frame_of, frame_of[regions]]), kind='stable')
    codes = np.concatenate([np.where(truth.codes == _DONTCARE, OTHER, truth.codes), truth.codes[regions]])[order]
    numbers = np.ascontiguousarray(np.concatenate([truth.numbers, truth.numbers[regions]])[order])
    all_roles = np.concatenate([roles, np.full(len(regions), _ABSENT, np.int8)])[order]
    more = np.concatenate([[0], np.cumsum(np.bincount(frame_of[regions], minlength=len(truth.starts) - 1))])
    return FrameObjects(codes, numbers, ground_rows(numbers), truth.starts + more), all_roles


def _part(
    labels: FrameObjects, found: FrameObjects, pairs: Pairs, roles: tuple[Any, Any], span: slice
) -> tuple[FrameObjects, FrameObjects, tuple[Any, Any], npt.NDArray[Any], Pairs]:
    """Returns the objects, detections, roles, order and pairs of a span of frames."""
    own, other = (slice(int(table.starts[span.start]), int(table.starts[span.stop])) for table in (labels, found))
    rows = slice(int(pairs.starts[own.start]), int(pairs.starts[own.stop]))
    cut = Pairs(
        pairs.starts[own.start : own.stop + 1] - rows.start,
        pairs.detections[rows] - other.start,
        pairs.overlaps[rows],
        pairs.dontcare_overlap[other],
    )
    truth, pred = (
        FrameObjects(table.codes[part], table.numbers[part], table.ground[part], table.starts)
        for table, part in ((labels, own), (found, other))
    )
    order = np.argsort(-pred.numbers[:, SCORE])
    return truth, pred, (roles[0][own], roles[1][other]), order, cut
