"""BDD100K's lane scores of a folder of PNGs against a folder of label PNGs; no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError, require_folder
from perception3d.datasets.frame_building import map_frames
from perception3d.formats.bdd100k_lane.evaluation.pixels import mean_scores, pixel_scores
from perception3d.formats.bdd100k_lane.evaluation.table import Scores, image_scores, mean_table, table_lines
from perception3d.formats.bdd100k_lane.files import BACKGROUND_BIT, Bytes, read_label_png


@dataclass(frozen=True)
class EvaluationOptions:
    """What is scored.

    pixel: also pixel accuracy and IoU of the SAD paper. binary: the files are masks of lane or not (0 is background,
    every other value a lane), which have pixel scores alone. jobs: processes, by default one a core for many images.
    """

    pixel: bool = False
    binary: bool = False
    jobs: int | None = None


@dataclass(frozen=True)
class ImageFiles:
    """The PNGs of an image: its labels, and its predictions where there are any."""

    truth: Path
    predicted: Path | None


def evaluate_folders(
    gt: str | Path, pred: str | Path, options: EvaluationOptions | None = None, progress: bool = True
) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table to print.

    As in the official tool all PNGs of `gt`, in subfolders too, are scored; a prediction belongs to a label by the name
    of its file alone, and an image without one counts as an image of zeros, which is a crosswalk everywhere. For the
    pixel scores such an image has no lanes. Scores of the table are in percent, of pixels in 0..1.

    Raises:
        InputError: a folder is missing or has no PNG, no image has a prediction, or one is no label PNG or of another
            size; names the file.
    """
    options = options or EvaluationOptions()
    images = list_images(gt, pred)
    lines = [f'BDD100K lanes: {len(images)} images']
    scores: dict[str, Any] = {}
    pixels: list[tuple[float, float]] = []
    if options.binary:
        pixels = map_frames(_score_masks, images, options.jobs, progress, task='images')
    else:
        score = partial(_score_bytes, pixel=options.pixel)
        found = map_frames(score, images, options.jobs, progress, task='images')
        scores = mean_table([table for table, _ in found])
        lines += table_lines(scores)
        pixels = [each for _, each in found if each is not None]
    if pixels:
        scores['pixel'] = mean_scores(pixels)
        lines.append('pixels: ' + ', '.join(f'{name} {value:.4f}' for name, value in scores['pixel'].items()))
    notes = _notes(images, options.binary)
    if notes:
        scores['notes'] = notes
    return scores, '\n'.join([*lines, *(f'note: {note}' for note in notes)])


def list_images(gt: str | Path, pred: str | Path) -> list[ImageFiles]:
    """Returns the files of all images that have a label PNG, in the order of the official tool.

    Raises:
        InputError: a folder is missing or holds no PNG, or no PNG of `pred` has the name of a label.
    """
    truth = _pngs(require_folder(gt, 'give --gt the folder of label PNGs'))
    predicted = {path.stem: path for path in _pngs(require_folder(pred, 'give --pred the folder of result PNGs'))}
    if not any(path.stem in predicted for path in truth):
        raise InputError(
            f'{pred} has no prediction of any of the {len(truth)} images, such as {truth[0].stem}.png: give --pred the '
            'folder of their results'
        )
    return [ImageFiles(path, predicted.get(path.stem)) for path in truth]


def _pngs(folder: Path) -> list[Path]:
    """Returns the PNGs of a folder and of those in it, sorted by their whole names: sums of floats depend on it."""
    names = [os.path.join(root, name) for root, _, files in os.walk(folder) for name in files if name.endswith('.png')]
    if not names:
        raise InputError(f'{folder} holds no .png files: expected one for each image')
    return [Path(name) for name in sorted(names)]


def _read(files: ImageFiles) -> tuple[Bytes, Bytes]:
    """Returns the values (H, W) of both files; zeros for a missing prediction."""
    truth = read_label_png(files.truth)
    if files.predicted is None:
        return truth, np.zeros_like(truth)
    predicted = read_label_png(files.predicted)
    if predicted.shape != truth.shape:
        (height, width), (wanted_height, wanted_width) = predicted.shape, truth.shape
        raise InputError(
            f'{files.predicted} is {width} x {height} pixels, but {files.truth} {wanted_width} x {wanted_height}: '
            'expected predictions at the size of the labels'
        )
    return truth, predicted


def _score_bytes(files: ImageFiles, pixel: bool) -> tuple[Scores, tuple[float, float] | None]:
    """Returns the F-scores of label bytes, and accuracy and IoU of their lane pixels if asked for."""
    truth, predicted = _read(files)
    scores = image_scores(truth, predicted)
    if not pixel:
        return scores, None
    # Zeros are lanes everywhere by the bytes; a missing prediction finds none.
    found = (predicted & BACKGROUND_BIT == 0) & (files.predicted is not None)
    return scores, pixel_scores(truth & BACKGROUND_BIT == 0, found)


def _score_masks(files: ImageFiles) -> tuple[float, float]:
    """Returns accuracy and IoU of masks that are 0 on the background."""
    truth, predicted = _read(files)
    return pixel_scores(truth != 0, predicted != 0)


def _notes(images: list[ImageFiles], binary: bool) -> list[str]:
    """Returns what a reader should know of the files."""
    notes = []
    missing = sum(files.predicted is None for files in images)
    if missing:
        counted = 'no lane' if binary else 'zeros (a crosswalk everywhere), as in the official tool'
        notes.append(f'{missing} of {len(images)} images have no prediction: they count as {counted}')
    for folder, paths in (
        ('labels', [files.truth for files in images]),
        ('predictions', [files.predicted for files in images if files.predicted]),
    ):
        # In label bytes 255 is background: such masks would be read the wrong way round.
        values = set(np.unique(read_label_png(paths[0])).tolist()) if paths and not binary else set()
        if values and (values <= {0, 1} or values == {0, 255}):
            notes.append(
                f'{paths[0].name} of the {folder} has only the values {" and ".join(map(str, sorted(values)))}: if '
                'these are masks of lane or not, give --binary'
            )
    return notes
