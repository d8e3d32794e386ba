"""Scores of a folder of result files against a folder of label files; no torch.

The frames that have a file in the folder of results are scored.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, require_folder
from perception3d.datasets.cloud_columns import FEATURES_HINT
from perception3d.datasets.point_clouds import read_cloud
from perception3d.evaluation.frame_lists import describe_unscored, require_frames
from perception3d.evaluation.point_files import PointFileCounter, PointScoring, ScanFiles, describe
from perception3d.formats.custom_points.files import (
    CLASSES_FILE,
    cloud_name,
    read_classes,
    require_label_for_each_point,
)


@dataclass(frozen=True)
class EvaluationOptions:
    """What is scored.

    classes_file: the classes and their ids; by default classes.json next to the folder of labels. by_distance: also by
    distance from the sensor. points: folder of the clouds for that, by default points/ next to the folder of labels;
    num_features: floats a point there. panoptic: also panoptic quality.
    """

    classes_file: str | Path | None = None
    by_distance: bool = False
    points: str | Path | None = None
    num_features: int = 4
    panoptic: bool = False


def evaluate_folders(
    gt: str | Path, pred: str | Path, options: EvaluationOptions | None = None
) -> tuple[dict[str, Any], str]:
    """Returns the scores, see `evaluation.point_files.describe`, and the table to print.

    Raises:
        InputError: a folder is missing, or a file is missing or cannot be used; names the file.
    """
    options = options or EvaluationOptions()
    gt, pred = require_folder(gt, 'give --gt the folder of label files'), require_folder(pred)
    classes = read_classes(options.classes_file or gt.parent / CLASSES_FILE)
    found = sorted(path.stem for path in pred.glob('*.label'))
    if not found:
        raise InputError(f'{pred} holds no result files: expected a .label file for each frame')
    there = [path.stem for path in gt.glob('*.label')]
    require_frames(gt, found, there)
    points_of = None
    if options.by_distance:
        clouds = require_folder(options.points or gt.parent / 'points', 'give --points the folder of the clouds')
        points_of = partial(_read_points, clouds, set(os.listdir(clouds)), options.num_features)
    stuff = [name for name in classes.ids if name not in classes.things]
    counter = PointFileCounter(PointScoring(classes.encoding(), points_of, options.panoptic, classes.things, stuff))
    for frame in found:
        counter.add(ScanFiles(gt / f'{frame}.label', pred / f'{frame}.label'))
    scores, lines = describe(counter.scoring, counter.counts)
    notes = describe_unscored(len(there) - len(found))
    if notes:
        scores['notes'] = [*scores.get('notes', []), *notes]
    return scores, '\n'.join([f'{len(found)} frames', *lines, *(f'note: {note}' for note in notes)])


def _read_points(folder: Path, stored: set[str], num_features: int, files: ScanFiles) -> npt.NDArray[np.float32]:
    path = folder / cloud_name(folder, files.truth.stem, stored)
    points: npt.NDArray[np.float32] = read_cloud(path, num_features, hint=FEATURES_HINT)
    require_label_for_each_point(files.truth, files.truth.stat().st_size // 4, path, points)
    return points
