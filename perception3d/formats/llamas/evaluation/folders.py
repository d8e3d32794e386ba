"""LLAMAS' scores of a folder of results against a folder of label files; no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from perception3d.checks import InputError, require_file, require_folder
from perception3d.datasets.frame_building import map_frames
from perception3d.evaluation.lane_f1 import MAIN_IOU, LaneCounts, LaneRule, count_lanes, lane_report
from perception3d.formats.culane.files import LINES_SUFFIX, read_lines
from perception3d.formats.llamas.evaluation.average_precision import average_precision
from perception3d.formats.llamas.files import SIZE_WH, SLOTS, Label, Mask, label_lanes, marker_mask, read_label

FIRST_ROW = 300
"""Rows above are not annotated in the official evaluation of splines."""


@dataclass(frozen=True)
class EvaluationOptions:
    """thresholds: of the IoU of lanes; width_px: of their bands; jobs: processes, by default one a core for many."""

    thresholds: Sequence[float] = (MAIN_IOU,)
    width_px: int = 30
    jobs: int | None = None


@dataclass(frozen=True)
class ImageScores:
    """What an image adds: its lanes and whether it has a file of them; the AP of SLOTS, None without PNGs."""

    lanes: LaneCounts
    has_lines: bool
    precisions: tuple[float, ...] | None


def evaluate_folders(
    gt: str | Path, pred: str | Path, options: EvaluationOptions | None = None, progress: bool = True
) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print.

    Where `pred` has files `RECORDING/LABEL.lines.txt`, lanes are scored by CULane's metric on 1276 x 717 pixels: see
    `evaluation.lane_f1`. Annotated lanes have a point in each row from 300 on; an image without a result file has no
    lanes. LLAMAS' own script for splines rounds towards zero, samples results by 50 points a lane and leaves annotated
    lanes as polylines: its numbers differ a little.

    Where `pred` has probabilities, `RECORDING/LABEL.json_1.png` (l1) to `_4.png` (r1) with 255 for 1, `ap` is the
    average precision of each class in percent, see `average_precision.average_precision`, the mean over all images.
    Annotated pixels are those of the painted markers, not of the lines through them. Of the background, `_0.png`,
    nothing is scored.

    Raises:
        InputError: a folder is missing or has no files to score, or none of these images, PNGs of some images are
            missing, or a file cannot be used; names the file.
    """
    options = options or EvaluationOptions()
    gt, pred = require_folder(gt, 'give --gt a folder of labels, such as labels/valid'), require_folder(pred)
    labels = _files(gt, '.json')
    if not labels:
        raise InputError(f'{gt} holds no .json files: give --gt a folder of labels, such as labels/valid')
    found = _files(pred, LINES_SUFFIX), _files(pred, '.png')
    if not any(found):
        raise InputError(f'{pred} holds neither RECORDING/LABEL{LINES_SUFFIX} nor RECORDING/LABEL.json_1.png')
    rule = LaneRule(SIZE_WH, tuple(options.thresholds), options.width_px)
    count = partial(score_image, gt=gt, pred=pred, rule=rule, with_pngs=bool(found[1]))
    scored = map_frames(count, labels, options.jobs, progress, 'scoring lanes')
    scores: dict[str, Any] = {}
    lines = [f'LLAMAS: {len(labels)} images']
    if found[0]:
        scores, table = lane_report([image.lanes for image in scored], rule)
        lines += table
        missing = sum(not image.has_lines for image in scored)
        if missing == len(scored):
            raise InputError(
                f'{pred} has no result file of any of the {missing} images, such as {labels[0]}{LINES_SUFFIX}: give '
                '--pred the folder of RECORDING/'
            )
        if missing:
            scores['notes'] = [f'{missing} of {len(scored)} images have no result file: they count as without lanes']
            lines += [f'note: {note}' for note in scores['notes']]
    if found[1]:
        means = np.mean([image.precisions for image in scored], axis=0) * 100
        scores['ap'] = dict(zip(SLOTS, means.tolist()))
        lines.append('AP, %: ' + ', '.join(f'{name} {value:.2f}' for name, value in scores['ap'].items()))
        lines.append(f'mean {np.mean(means):.2f}')
    return scores, '\n'.join(lines)


def _files(folder: Path, suffix: str) -> list[str]:
    """Returns the files of a folder and its subfolders that end so, relative to it, without the end, sorted."""
    found = (
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(suffix)
    )
    return sorted(Path(name.removesuffix(suffix)).as_posix() for name in found)


def score_image(name: str, gt: Path, pred: Path, rule: LaneRule, with_pngs: bool) -> ImageScores:
    """Scores one image, by the path of its label without `.json`, relative to both folders."""
    label = read_label(gt / f'{name}.json')
    path = pred / f'{name}{LINES_SUFFIX}'
    # A missing file has no lanes.
    counts = count_lanes(label_lanes(label, FIRST_ROW)[0], read_lines(path), rule)
    precisions = _precisions(label, pred / f'{name}.json') if with_pngs else None
    return ImageScores(counts, path.is_file(), precisions)


def _precisions(label: Label, stem: Path) -> tuple[float, ...]:
    truth = marker_mask(label)
    return tuple(
        average_precision(truth == slot + 1, _read_probability(stem.with_name(f'{stem.name}_{slot + 1}.png')))
        for slot in range(len(SLOTS))
    )


def _read_probability(path: Path) -> Mask:
    stored = np.fromfile(require_file(path, 'expected a PNG of each class l1, l0, r0, r1 for each label'), np.uint8)
    image = cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE) if stored.size else None
    if image is None:
        raise InputError(f'{path} does not decode as an image: it is damaged, write it again')
    if image.shape != SIZE_WH[::-1]:
        raise InputError(
            f'{path} is {image.shape[1]} x {image.shape[0]} pixels: expected {SIZE_WH[0]} x {SIZE_WH[1]}, as the labels'
        )
    return np.asarray(image, np.uint8)
