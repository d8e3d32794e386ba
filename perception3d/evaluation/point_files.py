"""Scores of label files: each scan is read once and counted for all scores that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.evaluation.panoptic import PanopticCounts, SegmentPairs, count_runs
from perception3d.evaluation.point_iou import Counts, IouScores, distances, iou_table, kitti_iou
from perception3d.structures.label_encoding import LabelEncoding, require_count

RINGS_M = ((1e-8, 10.0), (10.0, 20.0), (20.0, 30.0), (30.0, 40.0), (40.0, 50.0))
"""The rings of `evaluate_semantics_by_distance.py`, metres from the sensor in space; both ends are open."""
MIN_SEGMENT_POINTS = 50
"""Smaller segments that match nothing are left out, as in `evaluate_panoptic.py`."""
_EPSILON = 1e-15
_IDS = 1 << 16


@dataclass(frozen=True)
class ScanFiles:
    """The label files of a scan: annotated and predicted."""

    truth: Path
    predicted: Path


@dataclass(frozen=True)
class PointScoring:
    """What is scored, and how.

    Attributes:
        encoding: the classes and their ids; label files have 32 bits a point.
        points_of: returns the points (N, 3 or more) of a scan for scores by distance; None for none.
        panoptic: also count segments; things and stuff are names of classes, in the order in which they are averaged.
        longer_predictions: predictions may go on behind the points of the scan, which are those that count.
    """

    encoding: LabelEncoding
    points_of: Callable[[ScanFiles], npt.NDArray[np.float32]] | None = None
    panoptic: bool = False
    things: Sequence[str] = ()
    stuff: Sequence[str] = ()
    longer_predictions: bool = False


@dataclass
class PointCounts:
    """What the points of all scans add up to.

    confusion (K + 1, K + 1): see `point_iou.count_confusion`; rings (len(RINGS_M), K + 1, K + 1) the same by distance.
    unpredicted: the first file of predictions that has no class on a scored point.
    """

    confusion: Counts
    rings: Counts
    segments: PanopticCounts
    unpredicted: Path | None = field(default=None)


class PointFileCounter:
    """Counts label files, a scan at a time."""

    def __init__(self, scoring: PointScoring) -> None:
        self.scoring = scoring
        classes = len(scoring.encoding.classes)
        # Labels by id, K for what is not scored; K + 1 for ids that the format does not have.
        self._labels = np.full(_IDS, classes + 1, np.intp)
        for number, label in scoring.encoding.label_of.items():
            self._labels[number] = min(label, classes)
        self.counts = PointCounts(
            np.zeros((classes + 1, classes + 1), np.int64),
            np.zeros((len(RINGS_M), classes + 1, classes + 1), np.int64),
            PanopticCounts(classes, MIN_SEGMENT_POINTS),
        )

    def add(self, files: ScanFiles) -> None:
        """Reads and counts a scan.

        Raises:
            InputError: a file is missing or truncated, holds an id that the format does not have, or has not one label
                for each point.
        """
        truth = self.scoring.encoding.read(files.truth)
        predicted = self.scoring.encoding.read(files.predicted, len(truth), self.scoring.longer_predictions)
        runs = count_runs(predicted, truth)
        if self.scoring.points_of is None:
            found = self._counted(self._pairs(runs), runs.points)
        else:
            rings = self._by_ring(runs, self._ring_of(files, len(truth)))
            self.counts.rings += rings[:-1, :-1, :-1]
            found = rings.sum(axis=0)
        if self.scoring.panoptic:
            self.counts.segments.add(runs.merged(), self._label_of)
        if found[-1].any() or found[:, -1].any():
            # Slower, and says which ids and where.
            self.scoring.encoding.labels(truth, files.truth)
            self.scoring.encoding.labels(predicted, files.predicted)
        self.counts.confusion += found[:-1, :-1]
        if self.counts.unpredicted is None and found[-2, :-2].any():
            self.counts.unpredicted = files.predicted

    def _label_of(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        labels: npt.NDArray[np.int64] = self._labels[stored & stored.dtype.type(_IDS - 1)]
        return labels

    @property
    def _size(self) -> int:
        """Rows of a matrix of counts: classes, "none", ids that the format does not have."""
        return len(self.scoring.encoding.classes) + 2

    def _pairs(self, runs: SegmentPairs) -> npt.NDArray[np.int64]:
        """Returns the element of a matrix of counts, row predicted, column annotated, that each run is counted in."""
        return self._label_of(runs.predicted) * self._size + self._label_of(runs.truth)

    def _counted(self, pairs: npt.NDArray[np.int64], points: npt.NDArray[np.int64]) -> Counts:
        counts = np.bincount(pairs, points, self._size**2)
        return counts.astype(np.int64).reshape(self._size, self._size)

    def _by_ring(self, runs: SegmentPairs, ring: npt.NDArray[np.int8]) -> Counts:
        """Returns the matrices of counts of each ring, and of the points that are in none."""
        # Small numbers: the copies of them are most of the time.
        pair_of = np.repeat(self._pairs(runs).astype(np.int32), runs.points)
        # numpy 1 keeps int8 times a scalar that fits into int8, and wraps around.
        first_of = ring.astype(np.int32) * self._size**2
        counts = np.bincount(pair_of + first_of, minlength=(len(RINGS_M) + 1) * self._size**2)
        return counts.reshape(-1, self._size, self._size)

    def _ring_of(self, files: ScanFiles, num_points: int) -> npt.NDArray[np.int8]:
        """Returns the ring (N,) of each point, len(RINGS_M) for none."""
        assert self.scoring.points_of is not None
        points = self.scoring.points_of(files)
        require_count(files.truth, num_points, len(points))
        distance_m = distances(points)
        ring = np.full(num_points, len(RINGS_M), np.int8)
        for index, (low, high) in enumerate(np.array(RINGS_M, np.float32)):
            inside = (distance_m > low) & (distance_m < high)
            # Rings do not overlap: each point gets `index` once, or keeps the number of none.
            ring -= inside * np.int8(len(RINGS_M) - index)
        return ring


def describe(scoring: PointScoring, counts: PointCounts) -> tuple[dict[str, Any], list[str]]:
    """Returns the scores of SemanticKITTI's tools, and the lines of their table.

    Scores in 0..1: `miou`, `accuracy`, `iou` by class; where asked for `by_distance`, the same by the outer radius of a
    ring, and `panoptic`, see `panoptic_scores`; `notes`, where there is something to say.
    """
    classes = scoring.encoding.classes
    total = kitti_iou(counts.confusion)
    scores, lines = _named(classes, total), iou_table(classes, total, counts.confusion)
    if scoring.points_of is not None:
        rings = {f'{high:g}': kitti_iou(ring) for (_, high), ring in zip(RINGS_M, counts.rings)}
        scores['by_distance'] = {name: _named(classes, found) for name, found in rings.items()}
        lines += [f'up to {name:>3} m: mean IoU {100 * found.miou:.2f}' for name, found in rings.items()]
    if scoring.panoptic:
        scores['panoptic'] = panoptic_scores(scoring, counts)
        lines.append(
            ', '.join(f'{name} {100 * scores["panoptic"][name]:.2f}' for name in ('pq', 'sq', 'rq', 'pq_dagger'))
        )
    notes = _notes(classes, counts)
    return {**scores, **({'notes': notes} if notes else {})}, [*lines, *(f'note: {note}' for note in notes)]


def _named(classes: Sequence[str], scores: IouScores) -> dict[str, Any]:
    iou = dict(zip(classes, scores.iou.tolist()))
    return {'miou': scores.miou, 'accuracy': scores.accuracy, 'iou': iou}


def panoptic_scores(scoring: PointScoring, counts: PointCounts) -> dict[str, Any]:
    """Returns the panoptic scores of `evaluate_panoptic.py`, bit for bit.

    `pq`, `sq`, `rq`, `pq_dagger` (of stuff the IoU stands for its quality) and those of `things` and `stuff` are means
    over the things, then the stuff of `scoring`; `miou` is the mean over all classes, 0 where one has no points;
    `classes` has `pq`, `sq`, `rq`, `iou` by name.
    """
    classes, quality = scoring.encoding.classes, counts.segments.quality()
    # The panoptic tool guards against 0 in another way than the tool for semantics: last bits differ.
    scored = counts.confusion[:, :-1].astype(np.float64)
    right = np.diagonal(scored)
    iou = right / np.maximum(right + (scored.sum(axis=1)[:-1] - right) + (scored.sum(axis=0) - right), _EPSILON)
    named = {
        name: {'pq': float(pq), 'sq': float(sq), 'rq': float(rq), 'iou': float(value)}
        for name, pq, sq, rq, value in zip(classes, quality.pq, quality.sq, quality.rq, iou)
    }
    groups = {'things': list(scoring.things), 'stuff': list(scoring.stuff)}
    every = groups['things'] + groups['stuff']
    dagger = [named[name]['pq'] for name in groups['things']] + [named[name]['iou'] for name in groups['stuff']]
    return {
        **_means(named, every),
        'pq_dagger': float(np.mean(dagger)) if dagger else 0.0,
        'miou': float(iou.mean()),
        **{group: _means(named, names) for group, names in groups.items()},
        'classes': named,
    }


def _means(named: dict[str, dict[str, float]], names: Sequence[str]) -> dict[str, float]:
    return {key: float(np.mean([named[name][key] for name in names])) if names else 0.0 for key in ('pq', 'sq', 'rq')}


def _notes(classes: Sequence[str], counts: PointCounts) -> list[str]:
    notes = []
    missed = int(counts.confusion[-1, :-1].sum())
    if missed:
        notes.append(f'points predicted as no class, which are missed: {missed} (first in {counts.unpredicted})')
    points = counts.confusion[:, :-1].sum(axis=0) + counts.confusion[:-1, :-1].sum(axis=1)
    absent = [name for name, count in zip(classes, points) if not count]
    if absent:
        notes.append(f'neither annotated nor predicted, and IoU 0 in the mean: {", ".join(absent)}')
    return notes
