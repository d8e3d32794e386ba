"""KITTI's object benchmark: 2D, orientation (AOS), bird's-eye view and 3D average precision, as the official tool says.

The rules are those of the benchmark's C++ development kit (Geiger et al. 2012); R11 is the mean precision at 11 recalls
(0, 0.1 .. 1), R40 that at 40 (1/40 .. 1), which the benchmark uses since October 2019 (Simonelli et al. 2019). No torch
is needed here, so that scoring files starts at once.

Where the kit says nothing, this does:

- It leaves out a class that was never detected (2D: no box with x1 >= 0; BEV: none with x != -1000; 3D: none with
  y != -1000). Here its AP is 0, as for a class without ground truth.
- At a threshold with neither true nor false positives it divides by zero. Here that precision is the best one at higher
  recalls.
- AOS is None when any detection has alpha = -10: the kit then computes none.

With 40 objects of a class or fewer a perfect detector cannot reach 100 (10 objects: R11 27.27, R40 22.50), because the
kit finds fewer thresholds than recalls. That is kept, and the table says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np

from perception3d.evaluation.frame_lists import describe_unscored, label_frames, list_frames
from perception3d.formats.kitti.evaluation.kernels import POINTS, find_pairs, ground_rows, precision_curve
from perception3d.formats.kitti.evaluation.reading import (
    ALPHA,
    BOX_2D,
    OCCLUDED,
    SCORE,
    TRUNCATED,
    TYPES,
    FrameTable,
    X,
    Y,
    read_frames,
)

CLASSES = ('car', 'pedestrian', 'cyclist')
DIFFICULTIES = ('easy', 'moderate', 'hard')
METRICS = ('2d', 'aos', 'bev', '3d')
STRICT = {'2d': (0.7, 0.5, 0.5), 'bev': (0.7, 0.5, 0.5), '3d': (0.7, 0.5, 0.5)}
"""The official overlaps that a match must exceed, by metric and class."""
LOOSE = {'2d': (0.7, 0.5, 0.5), 'bev': (0.5, 0.25, 0.25), '3d': (0.5, 0.25, 0.25)}
"""mmdet3d's second set; not official."""

_NEIGHBOURS = {'car': 'van', 'pedestrian': 'person_sitting'}
_MIN_HEIGHT_PX, _MAX_OCCLUSION, _MAX_TRUNCATION = (40, 25, 25), (0, 1, 2), (0.15, 0.3, 0.5)
_COLUMN = {'2d': 0, 'bev': 1, '3d': 2}

Average = dict[str, float | None]
ClassScores = dict[str, dict[str, dict[str, Average]]]


@dataclass(frozen=True)
class KittiResult:
    """Scores of a set of frames.

    scores: class -> metric -> difficulty -> {'R11', 'R40'}, in percent (AOS may be None); with loose overlaps the same
    form again under 'loose'. objects: class -> valid objects by difficulty. frames and detections: their numbers.
    undetected: classes that no detection has. unscored: label files without a result file, whose frames do not count.
    ignored: reason -> class -> objects that no difficulty counts.
    """

    scores: ClassScores
    objects: dict[str, tuple[int, ...]]
    frames: int
    detections: int
    undetected: list[str] = field(default_factory=list)
    unscored: int = 0
    ignored: dict[str, dict[str, int]] = field(default_factory=dict)


def evaluate_folders(
    gt: str | Path,
    pred: str | Path,
    loose: bool = False,
    above_min_height: bool = False,
    frames: Sequence[str] | None = None,
) -> KittiResult:
    """Scores a folder of result files against a folder of label files.

    Args:
        gt: `<frame>.txt`, 15 columns.
        pred: `<frame>.txt`, 16 columns, empty for a frame without detections.
        loose, above_min_height: as of `evaluate_tables`.
        frames: the frames to score; by default those of the files in `pred`, as the official tool does.

    Raises:
        InputError: names file and line of what cannot be read, frames that `gt` or `pred` lacks, and what in `pred` is
            no result file.
    """
    chosen = list_frames(pred) if frames is None else list(frames)
    truth = read_frames(gt, chosen, scored=False)
    result = evaluate_tables(truth, read_frames(pred, chosen, scored=True), loose, above_min_height)
    unscored = len(set(label_frames(gt)) - set(chosen)) if frames is None else 0
    return replace(result, unscored=unscored)


def evaluate_tables(
    truth: FrameTable, found: FrameTable, loose: bool = False, above_min_height: bool = False
) -> KittiResult:
    """Scores detections against labels of the same frames.

    Args:
        truth, found: labels (N, 14) and results (M, 15) of the same frames.
        loose: also score with the LOOSE overlaps.
        above_min_height: whether an object must be higher than 40 or 25 pixels, as in newer copies of the kit and in
            mmdet3d; otherwise it may also be exactly as high.
    """
    sets = {'strict': STRICT, 'loose': LOOSE} if loose else {'strict': STRICT}
    least = np.array([min(min(bounds[metric]) for bounds in sets.values()) for metric in _COLUMN])
    tasks = list(product(sets, CLASSES, _COLUMN, range(len(DIFFICULTIES))))
    detected = _detected(found)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pairs = _all_pairs(truth, found, least, pool)
        order = np.argsort(-found.numbers[:, SCORE])

        def curves(task: tuple[str, str, str, int]) -> tuple[np.ndarray, np.ndarray, int]:
            name, kind, metric, level = task
            number = CLASSES.index(kind)
            neighbour = TYPES.index(_NEIGHBOURS[kind]) if kind in _NEIGHBOURS else -1
            rule = (
                number,
                neighbour,
                float(_MIN_HEIGHT_PX[level]),
                above_min_height,
                float(_MAX_OCCLUSION[level]),
                _MAX_TRUNCATION[level],
            )
            objects = truth.codes, truth.numbers, found.codes, found.numbers
            return precision_curve(rule, _COLUMN[metric], sets[name][metric][number], *objects, order, *pairs)

        results = dict(zip(tasks, pool.map(curves, tasks), strict=True))

    oriented = not (found.numbers[:, ALPHA] == -10).any()
    by_set: dict[str, ClassScores] = {name: {kind: {m: {} for m in METRICS} for kind in CLASSES} for name in sets}
    for (name, kind, metric, level), (precision, similarity, _) in results.items():
        known, difficulty = detected[metric][CLASSES.index(kind)], DIFFICULTIES[level]
        by_set[name][kind][metric][difficulty] = _average(precision * known)
        if metric == '2d':
            aos = _average(similarity * known) if oriented else {'R11': None, 'R40': None}
            by_set[name][kind]['aos'][difficulty] = aos
    return KittiResult(
        scores={**by_set['strict'], **({'loose': by_set['loose']} if loose else {})},
        objects={kind: tuple(results['strict', kind, '2d', level][2] for level in range(3)) for kind in CLASSES},
        frames=len(truth.starts) - 1,
        detections=len(found.codes),
        undetected=[kind for number, kind in enumerate(CLASSES) if not (found.codes == number).any()],
        ignored=_ignored(truth, above_min_height),
    )


def _ignored(truth: FrameTable, above_min_height: bool) -> dict[str, dict[str, int]]:
    """Counts the objects that not even hard counts: reason -> class -> number; each has its first reason."""
    height = truth.numbers[:, BOX_2D + 3] - truth.numbers[:, BOX_2D + 1]
    least = _MIN_HEIGHT_PX[-1]
    reasons = {
        'their 2D box has no height': height <= 0,
        f'their 2D box is lower than {least} pixels': (height <= least) if above_min_height else (height < least),
        'they are more than largely occluded': truth.numbers[:, OCCLUDED] > _MAX_OCCLUSION[-1],
        f'more than {_MAX_TRUNCATION[-1]:.0%} of them are truncated': truth.numbers[:, TRUNCATED] > _MAX_TRUNCATION[-1],
    }
    left = np.ones(len(truth.codes), bool)
    found: dict[str, dict[str, int]] = {}
    for reason, rows in reasons.items():
        counts = {kind: int((rows & left & (truth.codes == code)).sum()) for code, kind in enumerate(CLASSES)}
        if any(counts.values()):
            found[reason] = {kind: count for kind, count in counts.items() if count}
        left &= ~rows
    return found


def ignored_notes(result: KittiResult) -> list[str]:
    """Returns a line for each reason for which objects count at no difficulty."""
    return [
        f'{sum(counts.values())} objects are not scored, since {reason}: '
        + ', '.join(f'{kind} {count}' for kind, count in counts.items())
        for reason, counts in result.ignored.items()
    ]


def _detected(found: FrameTable) -> dict[str, list[bool]]:
    """Says by metric which classes the kit would evaluate: those with a detection that has what the metric needs."""
    usable = {
        '2d': found.numbers[:, BOX_2D] >= 0,
        'bev': found.numbers[:, X] != -1000,
        '3d': found.numbers[:, Y] != -1000,
    }
    return {
        metric: [bool((rows & (found.codes == number)).any()) for number in range(len(CLASSES))]
        for metric, rows in usable.items()
    }


def _all_pairs(
    truth: FrameTable, found: FrameTable, least: np.ndarray, pool: ThreadPoolExecutor
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the overlaps of all frames: (N + 1,) places of the objects' pairs, partners, overlaps, and `stuff`."""
    frames = len(truth.starts) - 1
    edges = np.linspace(0, frames, min(frames, 4 * (os.cpu_count() or 1)) + 1).astype(int)
    rows = ground_rows(truth.numbers), ground_rows(found.numbers)
    counts, stuff = np.zeros(len(truth.codes), np.int64), np.zeros((len(found.codes), 3))

    def chunk(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(first, last + 1)
        labels = truth.codes, truth.numbers, rows[0], truth.starts[part]
        return find_pairs(*labels, found.numbers, rows[1], found.starts[part], least, counts, stuff)

    partners, overlaps = zip(*pool.map(chunk, edges[:-1], edges[1:]), strict=True)
    return np.cumsum(np.concatenate(([0], counts))), np.concatenate(partners), np.concatenate(overlaps), stuff


def _average(curve: np.ndarray) -> Average:
    return {'R11': float(curve[::4].sum() / 11 * 100), 'R40': float(curve[1:].sum() / (POINTS - 1) * 100)}


def flatten(scores: ClassScores, classes: Sequence[str] = CLASSES) -> dict[str, float]:
    """Returns scores as one flat dict: `3d/car/moderate/R40`, and the mean over `classes`, `3d/mAP/moderate/R40`.

    Loose scores are below `loose/`. AOS is left out where it was not computed.
    """
    flat: dict[str, float] = {}
    for metric, difficulty, points in product(METRICS, DIFFICULTIES, ('R40', 'R11')):
        values = {kind: scores[kind][metric][difficulty][points] for kind in classes}
        if None in values.values():
            continue
        flat.update({f'{metric}/{kind}/{difficulty}/{points}': value for kind, value in values.items()})
        flat[f'{metric}/mAP/{difficulty}/{points}'] = float(np.mean(list(values.values())))
    if 'loose' in scores:
        flat.update({f'loose/{key}': value for key, value in flatten(scores['loose'], classes).items()})
    return flat


def table(result: KittiResult) -> str:
    """Returns the scores as text, R40 before R11, with a note on what to know when reading them."""
    lines = [f'KITTI: {result.frames} frames, {result.detections} detections']
    lines += _table_of(result.scores, STRICT, 'official overlaps', result.objects)
    if 'loose' in result.scores:
        lines += ['', *_table_of(result.scores['loose'], LOOSE, 'loose overlaps, not official', result.objects)]
    small = [
        f'{kind} {difficulty} ({count})'
        for kind in CLASSES
        for difficulty, count in zip(DIFFICULTIES, result.objects[kind], strict=True)
        if 0 < count < POINTS
    ]
    if not any(map(any, result.objects.values())):
        lines.append(f'note: the labels hold no object to score ({", ".join(CLASSES)}), so every AP is 0')
    if small:
        lines.append(f'note: with 40 objects or fewer not even perfect detections score 100: {", ".join(small)}')
    lines += [f'note: {note}' for note in (*describe_unscored(result.unscored), *ignored_notes(result))]
    if result.undetected:
        lines.append(f'note: never detected, so AP is 0: {", ".join(result.undetected)}')
    if result.scores['car']['aos']['easy']['R40'] is None:
        lines.append('note: no AOS, because a detection has alpha = -10')
    return '\n'.join(lines)


def _table_of(scores: ClassScores, bounds: dict, title: str, objects: dict[str, tuple[int, ...]]) -> list[str]:
    head = ''.join(f'{difficulty:>10}' for difficulty in DIFFICULTIES)
    lines = [f'AP in percent, {title}', f'{"":<27}{"R40":>20}{"":<10}{"R11":>23}']
    lines.append(f'{"class":<12}{"metric":<7}{"IoU >":<8}{head}   {head}')
    for number, kind in enumerate(CLASSES):
        for metric in METRICS:
            bound = bounds['2d' if metric == 'aos' else metric][number]
            cells = [
                ''.join(_cell(scores[kind][metric][difficulty][points]) for difficulty in DIFFICULTIES)
                for points in ('R40', 'R11')
            ]
            lines.append(f'{kind:<12}{metric:<7}{bound:<8.2f}{cells[0]}   {cells[1]}')
        counts = ''.join(f'{count:>10}' for count in objects[kind])
        lines.append(f'{kind:<12}{"objects":<15}{counts}')
    return lines


def _cell(value: float | None) -> str:
    return f'{"-":>10}' if value is None else f'{value:>10.2f}'
