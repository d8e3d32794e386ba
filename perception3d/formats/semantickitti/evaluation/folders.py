"""SemanticKITTI's scores of a folder of predictions, by the rules of its official tools; no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, require_folder
from perception3d.evaluation.point_files import PointFileCounter, PointScoring, ScanFiles, describe
from perception3d.files import read_points
from perception3d.formats.semantickitti.files import (
    CLASSES,
    MULTI_SCAN_CLASSES,
    POINT_FEATURES,
    STUFF,
    THINGS,
    label_encoding,
)

_TREE = 'it holds sequences/08/{}/000000.label'


@dataclass(frozen=True)
class EvaluationOptions:
    """What is scored.

    by_distance: also by distance from the sensor. panoptic: also panoptic quality. multi_scan: the 25 classes that tell
    moving objects apart. sequences: those to score, by default all of the predictions.
    """

    by_distance: bool = False
    panoptic: bool = False
    multi_scan: bool = False
    sequences: Sequence[str] = ()


def evaluate_folders(
    gt: str | Path, pred: str | Path, options: EvaluationOptions | None = None, progress: bool = True
) -> tuple[dict[str, Any], str]:
    """Returns the scores, see `evaluation.point_files.describe`, and the table to print.

    Every scan that is annotated in a scored sequence must have a prediction, and none may have one more.

    Args:
        gt: the tree, `sequences/08/labels`; by distance also `sequences/08/velodyne`.
        pred: `sequences/08/predictions`. With `multi_scan` a file may go on with the points of earlier scans.
        options: what is scored.
        progress: show a bar.

    Raises:
        InputError: files are missing, or one cannot be used; names the file.
    """
    from tqdm import tqdm

    options = options or EvaluationOptions()
    scoring = PointScoring(
        label_encoding(MULTI_SCAN_CLASSES if options.multi_scan else CLASSES),
        _points_of if options.by_distance else None,
        options.panoptic,
        THINGS,
        STUFF,
        longer_predictions=options.multi_scan,
    )
    scans = list_scans(gt, pred, options.sequences)
    counter = PointFileCounter(scoring)
    for files in tqdm(scans, desc='scans', unit='scan', disable=not progress):
        counter.add(files)
    scores, lines = describe(scoring, counter.counts)
    return scores, '\n'.join([f'SemanticKITTI: {len(scans)} scans', *lines])


def list_scans(gt: str | Path, pred: str | Path, sequences: Sequence[str] = ()) -> list[ScanFiles]:
    """Returns the label files of all scans of the sequences, in order; all sequences of `pred` by default.

    Raises:
        InputError: a folder is missing, or annotated and predicted scans are not the same.
    """
    labels, predictions = Path(gt) / 'sequences', Path(pred) / 'sequences'
    require_folder(labels, f'give --gt the folder that holds sequences/; {_TREE.format("labels")}')
    require_folder(predictions, f'give --pred the folder that holds sequences/; {_TREE.format("predictions")}')
    names = sequences or sorted(path.parent.name for path in predictions.glob('*/predictions'))
    if not names:
        raise InputError(f'{predictions} has no folder of predictions, such as {predictions / "08" / "predictions"}')
    scans = []
    for name in names:
        truth = _files(labels / name / 'labels', f'sequence {name} has predictions, but no labels to score them')
        found = _files(predictions / name / 'predictions', f'sequence {name} has no predictions')
        _require_same(truth, found, labels / name / 'labels', predictions / name / 'predictions')
        scans += [ScanFiles(truth[scan], found[scan]) for scan in truth]
    return scans


def _files(folder: Path, fault: str) -> dict[str, Path]:
    names = sorted(name for name in os.listdir(require_folder(folder, fault)) if name.endswith('.label'))
    files = {name.removesuffix('.label'): folder / name for name in names}
    if not files:
        raise InputError(f'{folder} holds no .label files: {fault}')
    return files


def _require_same(truth: dict[str, Path], found: dict[str, Path], labels: Path, predictions: Path) -> None:
    for some, others, words in (
        (truth, found, f'annotated scans in {labels} have no prediction in {predictions}'),
        (found, truth, f'predicted scans in {predictions} have no labels in {labels}'),
    ):
        missing = [scan for scan in some if scan not in others]
        if missing:
            raise InputError(f'{len(missing)} of {len(some)} {words} (first: {missing[0]}): each scan needs both')


def _points_of(files: ScanFiles) -> npt.NDArray[np.float32]:
    """Returns the points of a scan, which lies next to its labels."""
    return read_points(files.truth.parents[1] / 'velodyne' / f'{files.truth.stem}.bin', POINT_FEATURES)
