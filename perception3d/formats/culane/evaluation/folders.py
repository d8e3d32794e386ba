"""CULane's scores of a folder of `.lines.txt`, by the rules of its official tool; no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from perception3d.checks import InputError, require_file, require_folder
from perception3d.datasets.frame_building import map_frames
from perception3d.evaluation.lane_f1 import MAIN_IOU, LaneCounts, LaneRule, count_lanes, lane_report
from perception3d.formats.culane.files import CATEGORIES, CATEGORY_FILES, LINES_SUFFIX, read_lines

SIZE_WH = (1640, 590)
_TEST_LIST = 'list/test.txt'


@dataclass(frozen=True)
class EvaluationOptions:
    """What is scored.

    thresholds, size_wh, width_px: as of `LaneRule`. list_file: the images; by default list/test.txt of the annotations,
    else all annotated images; where `lists` is given, those of its lists. lists: folder of the nine lists of
    categories, which are scored on their own. jobs: processes.
    """

    thresholds: Sequence[float] = (MAIN_IOU,)
    list_file: str | Path | None = None
    lists: str | Path | None = None
    size_wh: tuple[int, int] = SIZE_WH
    width_px: int = 30
    jobs: int | None = None


@dataclass(frozen=True)
class ImageCounts:
    """The lanes of an image, and whether its two files are there."""

    lanes: LaneCounts
    annotated: bool
    predicted: bool


def evaluate_folders(
    gt: str | Path, pred: str | Path, options: EvaluationOptions | None = None, progress: bool = True
) -> tuple[dict[str, Any], str]:
    """Returns the scores, see `evaluation.lane_f1.lane_report`, and the table; `notes` where files are missing.

    An image without an annotation or a result file has no lanes there, as in the official tool.

    Args:
        gt, pred: folders below which the images of the lists have their `.lines.txt`.
        options: what is scored.
        progress: show a bar.

    Raises:
        InputError: a folder or list is missing, or names no images; none of the images has a result file.
    """
    options = options or EvaluationOptions()
    gt = require_folder(gt, 'give --gt the folder that the paths of the lists begin in')
    pred = require_folder(pred, 'give --pred the folder of result files')
    groups = {} if options.lists is None else read_category_lists(options.lists)
    if options.list_file is None and groups:
        images = [image for members in groups.values() for image in members]
    else:
        images = _images(gt, options.list_file)
    if not images:
        raise InputError(f'the lists of images are empty: expected one path a line, such as {_TEST_LIST} of CULane has')
    rule = LaneRule(options.size_wh, tuple(options.thresholds), options.width_px)
    every = dict.fromkeys([*images, *(image for members in groups.values() for image in members)])
    count = partial(count_image, gt=gt, pred=pred, rule=rule)
    counts = dict(zip(every, map_frames(count, list(every), options.jobs, progress, 'counting lanes')))
    if not any(each.predicted for each in counts.values()):
        raise InputError(
            f'{pred} has no result file of any of the {len(counts)} images, such as {images[0]}{LINES_SUFFIX}: give '
            '--pred the folder that the paths of the lists begin in'
        )
    return report_images(counts, images, rule, groups)


def report_images(
    counts: Mapping[str, ImageCounts], images: Sequence[str], rule: LaneRule, groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Any], str]:
    """Returns the scores and the table of images whose lanes are counted.

    Args:
        counts: of each image.
        images: those of the total, which may be named twice.
        rule: by which they were counted.
        groups: category -> its images.
    """
    scores, lines = lane_report(
        [counts[image].lanes for image in images],
        rule,
        {name: [counts[image].lanes for image in members] for name, members in groups.items()},
    )
    notes = []
    for files, missing in (
        ('annotation', sum(not each.annotated for each in counts.values())),
        ('result', sum(not each.predicted for each in counts.values())),
    ):
        if missing:
            notes.append(f'{missing} of {len(counts)} images have no {files} file: they count as images without lanes')
    if notes:
        scores['notes'] = notes
    return scores, '\n'.join([f'{len(images)} images', *lines, *(f'note: {note}' for note in notes)])


def count_image(
    image: str, gt: Path, pred: Path, rule: LaneRule, read: Callable[[Path], list[Any]] = read_lines
) -> ImageCounts:
    """Counts the lanes of an image, by its path without suffix relative to both folders.

    `read` returns the annotated lanes of a file with the suffix `.lines.txt`, none where it is missing.
    """
    files = [folder / f'{image}{LINES_SUFFIX}' for folder in (gt, pred)]
    return ImageCounts(count_lanes(read(files[0]), read_lines(files[1]), rule), *(file.is_file() for file in files))


def read_category_lists(folder: str | Path) -> dict[str, list[str]]:
    """Returns category -> images, without suffix, of the nine lists test0_normal.txt to test8_night.txt.

    Raises:
        InputError: the folder or one of the lists is missing.
    """
    folder = require_folder(folder, 'give --lists the folder list/test_split of CULane')
    names = [os.path.basename(file) for file in CATEGORY_FILES]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f'{folder} has no {", ".join(missing)}: expected the nine lists of CULane, an empty one for a category '
            'without images'
        )
    return {category: _read_list(folder / name) for category, name in zip(CATEGORIES, names)}


def _images(gt: Path, list_file: str | Path | None) -> list[str]:
    if list_file is not None:
        return _read_list(Path(list_file))
    if (gt / _TEST_LIST).is_file():
        return _read_list(gt / _TEST_LIST)
    found = sorted(path.relative_to(gt).as_posix().removesuffix(LINES_SUFFIX) for path in gt.rglob(f'*{LINES_SUFFIX}'))
    if not found:
        raise InputError(f'{gt} holds no {LINES_SUFFIX} files: give --gt the folder of the annotations')
    return found


def _read_list(path: Path) -> list[str]:
    """Returns the images of a list as the official tool takes them: twice if named twice, whatever the suffix."""
    lines = require_file(path, 'give a list of images, one path a line').read_text('utf-8', 'replace').split('\n')
    return [os.path.splitext(line.split()[0].lstrip('/'))[0] for line in lines if line.strip()]
