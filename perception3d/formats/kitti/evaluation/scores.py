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
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.evaluation.frame_lists import describe_unscored, label_frames, list_frames
from perception3d.evaluation.notes import describe_ignored
from perception3d.formats.kitti.evaluation.kernels import (
    POINTS,
    FrameObjects,
    Pairs,
    Rule,
    find_pairs,
    ground_rows,
    precision_curve,
)
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
from perception3d.formats.kitti.rules import DIFFICULTIES, SCORED, Difficulty, ScoredClass

CLASSES = tuple(scored.name for scored in SCORED)
LEVELS = tuple(difficulty.name for difficulty in DIFFICULTIES)
METRICS = ('2d', 'aos', 'bev', '3d')
_COLUMN = {'2d': 0, 'bev': 1, '3d': 2}

Average = dict[str, float | None]
ClassScores = dict[str, dict[str, dict[str, Average]]]
# Of the strict overlaps; those of the loose ones, in the same form, are the entry 'loose'.
Scores = dict[str, Any]


@dataclass(frozen=True)
class KittiResult:
    """Scores of a set of frames.

    scores: class -> metric -> difficulty -> {'R11', 'R40'}, in percent (AOS may be None); with loose overlaps the same
    form again under 'loose'. objects: class -> valid objects by difficulty. frames and detections: their numbers.
    undetected: classes that no detection has. unscored: label files without a result file, whose frames do not count.
    ignored: reason -> class -> objects that no difficulty counts.
    """

    scores: Scores
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
    truth: FrameTable, pred: FrameTable, loose: bool = False, above_min_height: bool = False
) -> KittiResult:
    """Scores detections against labels of the same frames.

    Args:
        truth, pred: labels (N, 14) and results (M, 15) of the same frames.
        loose: also score with the loose overlaps of `rules.SCORED`.
        above_min_height: whether an object must be higher than 40 or 25 pixels, as in newer copies of the kit and in
            mmdet3d; otherwise it may also be exactly as high.
    """
    sets = ('strict', 'loose') if loose else ('strict',)
    tasks = list(product(sets, SCORED, _COLUMN, DIFFICULTIES))
    labels, results = (FrameObjects(p.codes, p.numbers, ground_rows(p.numbers), p.starts) for p in (truth, pred))
    order = np.argsort(-pred.numbers[:, SCORE])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pairs = _all_pairs(labels, results, sets, pool)

        def curve(task: tuple[str, ScoredClass, str, Difficulty]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], int]:
            return precision_curve(_rule(*task, above_min_height), labels, results, order, pairs)

        curves = dict(zip(tasks, pool.map(curve, tasks), strict=True))

    oriented, detected = not (pred.numbers[:, ALPHA] == -10).any(), _detected(pred)
    by_set: dict[str, ClassScores] = {name: {own: {m: {} for m in METRICS} for own in CLASSES} for name in sets}
    for (name, scored, metric, difficulty), (precision, similarity, _) in curves.items():
        known, own = scored.name in detected[metric], by_set[name][scored.name]
        own[metric][difficulty.name] = _average(precision * known)
        if metric == '2d':
            aos: Average = _average(similarity * known) if oriented else {'R11': None, 'R40': None}
            own['aos'][difficulty.name] = aos
    return KittiResult(
        scores={**by_set['strict'], **({'loose': by_set['loose']} if loose else {})},
        objects={
            scored.name: tuple(curves['strict', scored, '2d', difficulty][2] for difficulty in DIFFICULTIES)
            for scored in SCORED
        },
        frames=len(truth.starts) - 1,
        detections=len(pred.codes),
        undetected=[name for name in CLASSES if not (pred.codes == TYPES.index(name)).any()],
        ignored=_ignored(truth, above_min_height),
    )


def _rule(overlaps: str, scored: ScoredClass, metric: str, difficulty: Difficulty, above_min_height: bool) -> Rule:
    return Rule(
        class_code=TYPES.index(scored.name),
        neighbour=-1 if scored.neighbour is None else TYPES.index(scored.neighbour.lower()),
        min_height_px=difficulty.min_height_px,
        above=above_min_height,
        max_occlusion=float(difficulty.max_occlusion),
        max_truncation=difficulty.max_truncation,
        metric=_COLUMN[metric],
        min_overlap=scored.overlaps(overlaps).of(metric),
    )


def _ignored(truth: FrameTable, above_min_height: bool) -> dict[str, dict[str, int]]:
    """Counts the objects that not even hard counts: reason -> class -> number; each has its first reason."""
    height, hard = truth.numbers[:, BOX_2D + 3] - truth.numbers[:, BOX_2D + 1], DIFFICULTIES[-1]
    low = height <= hard.min_height_px if above_min_height else height < hard.min_height_px
    reasons = {
        'their 2D box has no height': height <= 0,
        f'their 2D box is lower than {hard.min_height_px:g} pixels': low,
        'they are more than largely occluded': truth.numbers[:, OCCLUDED] > hard.max_occlusion,
        f'more than {hard.max_truncation:.0%} of them are truncated': truth.numbers[:, TRUNCATED] > hard.max_truncation,
    }
    left = np.ones(len(truth.codes), bool)
    ignored: dict[str, dict[str, int]] = {}
    for reason, rows in reasons.items():
        counts = {name: int((rows & left & (truth.codes == TYPES.index(name))).sum()) for name in CLASSES}
        if any(counts.values()):
            ignored[reason] = {name: count for name, count in counts.items() if count}
        left &= ~rows
    return ignored


def _detected(pred: FrameTable) -> dict[str, set[str]]:
    """Returns by metric the classes that the kit would evaluate: those with a detection that has what it needs."""
    usable = {
        '2d': pred.numbers[:, BOX_2D] >= 0,
        'bev': pred.numbers[:, X] != -1000,
        '3d': pred.numbers[:, Y] != -1000,
    }
    return {
        metric: {name for name in CLASSES if (rows & (pred.codes == TYPES.index(name))).any()}
        for metric, rows in usable.items()
    }


def _all_pairs(truth: FrameObjects, pred: FrameObjects, sets: Sequence[str], pool: ThreadPoolExecutor) -> Pairs:
    """Returns the pairs of all frames that overlap enough for any class of the `sets` of overlaps."""
    least = [min(scored.overlaps(name).of(metric) for name in sets for scored in SCORED) for metric in _COLUMN]
    frames = len(truth.starts) - 1
    edges = np.linspace(0, frames, min(frames, 4 * (os.cpu_count() or 1)) + 1).astype(int)
    counts, dontcare_overlap = np.zeros(len(truth.codes), np.int64), np.zeros((len(pred.codes), 3))

    def chunk(first: int, last: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        own, other = (part._replace(starts=part.starts[first : last + 1]) for part in (truth, pred))
        return find_pairs(own, other, np.array(least), counts, dontcare_overlap)

    partners, overlaps = zip(*pool.map(chunk, edges[:-1], edges[1:]), strict=True)
    starts = np.cumsum(np.concatenate(([0], counts)))
    return Pairs(starts, np.concatenate(partners), np.concatenate(overlaps), dontcare_overlap)


def _average(curve: npt.NDArray[Any]) -> Average:
    return {'R11': float(curve[::4].sum() / 11 * 100), 'R40': float(curve[1:].sum() / (POINTS - 1) * 100)}


def flatten(scores: Scores, classes: Sequence[str] = CLASSES) -> dict[str, float]:
    """Returns scores as one flat dict: `3d/car/moderate/R40`, and the mean over `classes`, `3d/mAP/moderate/R40`.

    Loose scores are below `loose/`. AOS is left out where it was not computed.
    """
    flat: dict[str, float] = {}
    for metric, difficulty, points in product(METRICS, LEVELS, ('R40', 'R11')):
        values = {name: scores[name][metric][difficulty][points] for name in classes}
        if None in values.values():
            continue
        flat.update({f'{metric}/{name}/{difficulty}/{points}': value for name, value in values.items()})
        flat[f'{metric}/mAP/{difficulty}/{points}'] = float(np.mean(list(values.values())))
    if 'loose' in scores:
        flat.update({f'loose/{key}': value for key, value in flatten(scores['loose'], classes).items()})
    return flat


def table(result: KittiResult) -> str:
    """Returns the scores as text, R40 before R11, with a note on what to know when reading them."""
    lines = [f'KITTI: {result.frames} frames, {result.detections} detections']
    lines += _table_of(result.scores, 'strict', 'official overlaps', result.objects)
    if 'loose' in result.scores:
        lines += ['', *_table_of(result.scores['loose'], 'loose', 'loose overlaps, not official', result.objects)]
    small = [
        f'{name} {level} ({count})'
        for name in CLASSES
        for level, count in zip(LEVELS, result.objects[name], strict=True)
        if 0 < count < POINTS
    ]
    if not any(map(any, result.objects.values())):
        lines.append(f'note: the labels hold no object to score ({", ".join(CLASSES)}), so every AP is 0')
    if small:
        lines.append(f'note: with 40 objects or fewer not even perfect detections score 100: {", ".join(small)}')
    notes = [*describe_unscored(result.unscored), *describe_ignored('objects', result.ignored)]
    lines += [f'note: {note}' for note in notes]
    if result.undetected:
        lines.append(f'note: never detected, so AP is 0: {", ".join(result.undetected)}')
    if result.scores['car']['aos']['easy']['R40'] is None:
        lines.append('note: no AOS, because a detection has alpha = -10')
    return '\n'.join(lines)


def _table_of(scores: Scores, overlaps: str, title: str, objects: dict[str, tuple[int, ...]]) -> list[str]:
    head = ''.join(f'{level:>10}' for level in LEVELS)
    lines = [f'AP in percent, {title}', f'{"":<27}{"R40":>20}{"":<10}{"R11":>23}']
    lines.append(f'{"class":<12}{"metric":<7}{"IoU >":<8}{head}   {head}')
    for scored in SCORED:
        for metric in METRICS:
            cells = [
                ''.join(_cell(scores[scored.name][metric][level][points]) for level in LEVELS)
                for points in ('R40', 'R11')
            ]
            bound = scored.overlaps(overlaps).of(metric)
            lines.append(f'{scored.name:<12}{metric:<7}{bound:<8.2f}{cells[0]}   {cells[1]}')
        counts = ''.join(f'{count:>10}' for count in objects[scored.name])
        lines.append(f'{scored.name:<12}{"objects":<15}{counts}')
    return lines


def _cell(value: float | None) -> str:
    return f'{"-":>10}' if value is None else f'{value:>10.2f}'
