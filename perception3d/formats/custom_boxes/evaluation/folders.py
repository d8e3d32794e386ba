"""LiDAR-frame AP of a folder of result files against an info file or a folder of label files; no torch.

The frames that have a file in the folder of results are scored, as with KITTI's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError, unknown_name
from perception3d.evaluation.frame_lists import describe_unscored, label_frames, list_frames, require_frames
from perception3d.evaluation.notes import describe_other_classes
from perception3d.files import holds_frames, read_pickle
from perception3d.formats.custom_boxes import FORMAT
from perception3d.formats.custom_boxes.evaluation.ap import LidarBoxes, lidar_scores
from perception3d.formats.custom_boxes.evaluation.table import class_thresholds, flatten, require_ranges, table
from perception3d.formats.custom_boxes.files import BoxLabels, read_labels

_HINT = 'give an info file of tools/create_data.py custom-boxes, or a folder of label files'


def evaluate_files(
    gt: str | Path,
    pred: str | Path,
    iou_thresholds: float | Mapping[str, float] = 0.5,
    range_bins_m: Sequence[tuple[float, float | None]] = (),
    classes: Sequence[str] | None = None,
) -> tuple[dict[str, Any], str]:
    """Returns the flat scores, as `LidarDetectionMetric` gives them, and the table to print.

    Where something is left out, the entry 'notes' of the scores and the table say so.

    Args:
        gt: info file of `tools/create_data.py custom-boxes`, or folder of label files.
        pred: folder of result files, `<frame>.txt` with a line `x y z dx dy dz heading class score` for each box.
        iou_thresholds, range_bins_m: as of `LidarDetectionMetric`.
        classes: what to score; by default the classes of the info file, or for a folder all that occur.

    Raises:
        InputError: names file and line of what cannot be read, a frame that `gt` lacks, a class that it does not know,
            and what in `pred` is not a result file.
    """
    ranges = require_ranges(range_bins_m)
    frames = list_frames(pred)
    truth, known, unscored = _truth(Path(gt), frames)
    paths = [Path(pred) / f'{frame}.txt' for frame in frames]
    found = [read_labels(path, scored=True) for path in paths]
    classes = _classes(list(classes or known), {*known, *_names(truth)}, paths, found)
    every = lidar_scores(
        _joined(truth, classes), _joined(found, classes), class_thresholds(iou_thresholds, classes), ranges
    )
    notes = describe_unscored(unscored)
    for what, parts in (('objects', truth), ('detections', found)):
        others = Counter(name for part in parts for name in part.names if name not in classes)
        notes += describe_other_classes(what, others)
    empty = [name for name, count in zip(classes, every[0].objects, strict=True) if not count]
    if not classes:
        notes.append('neither objects nor detections: nothing is scored')
    if empty:
        notes.append(f'no objects, so no AP: {", ".join(empty)}')
    lines = [f'LiDAR: {len(frames)} frames', table(classes, ranges, every), *(f'note: {note}' for note in notes)]
    return {**flatten(classes, ranges, every), **({'notes': notes} if notes else {})}, '\n'.join(lines)


def _classes(wanted: list[str], known: set[str], paths: Sequence[Path], found: Sequence[BoxLabels]) -> list[str]:
    """Returns the classes to score, `wanted` or all that occur; InputError for one that nothing knows."""
    there, allowed = known | _names(found), known | set(wanted)
    if not wanted:
        return sorted(there)
    for name in wanted:
        if name not in there:
            raise unknown_name('class', name, known)
    for path, part in zip(paths, found, strict=True):
        for line, name in zip(part.lines, part.names, strict=True):
            if name not in allowed:
                raise InputError(f'{path}, line {line}: {unknown_name("class", name, known)}')
    return list(dict.fromkeys(wanted))


def _names(parts: Sequence[BoxLabels]) -> set[str]:
    return {name for part in parts for name in part.names}


def _truth(gt: Path, frames: Sequence[str]) -> tuple[list[BoxLabels], list[str], int]:
    """Returns the objects of the frames, the classes of an info file, and how many frames have no results."""
    if gt.is_dir():
        there = label_frames(gt)
        require_frames(gt, frames, there)
        return [read_labels(gt / f'{frame}.txt') for frame in frames], [], len(there) - len(frames)
    content = read_pickle(gt, _HINT)
    metainfo = content.get('metainfo', {}) if isinstance(content, dict) else {}
    if metainfo.get('dataset') not in (FORMAT.name, *FORMAT.aliases):
        raise InputError(f'{gt} is not an info file of custom-boxes: {_HINT}')
    entries = content.get('data_list')
    if not holds_frames(entries, 'frame_id', 'labelled', 'instances') or 'categories' not in metainfo:
        raise InputError(f'{gt}: data_list is not a list of labelled frames, or metainfo lacks the categories: {_HINT}')
    infos = {info['frame_id']: info for info in entries}
    require_frames(gt, frames, infos)
    for frame in frames:
        if not infos[frame]['labelled']:
            raise InputError(f'{gt}: frame {frame} has no labels, so it cannot be scored')
    labelled = sum(info['labelled'] for info in infos.values())
    return [_objects(infos[frame]) for frame in frames], list(metainfo['categories']), labelled - len(frames)


def _objects(info: Mapping[str, Any]) -> BoxLabels:
    boxes = np.array([box['bbox_3d'] for box in info['instances']], np.float64).reshape(-1, 7)
    return BoxLabels(boxes, [box['name'] for box in info['instances']], [])


def _joined(parts: Sequence[BoxLabels], classes: Sequence[str]) -> LidarBoxes:
    """Puts frames one after another; objects of other classes get label -1, such detections go."""
    label_of = {name: label for label, name in enumerate(classes)}
    labels = [np.array([label_of.get(name, -1) for name in part.names], np.int64) for part in parts]
    scored = parts[0].scores is not None
    kept = [own >= (0 if scored else -1) for own in labels]
    rows = list(zip(parts, labels, kept, strict=True))
    return LidarBoxes(
        np.concatenate([part.boxes[keep] for part, _, keep in rows]),
        np.concatenate([own[keep] for _, own, keep in rows]),
        np.cumsum([0, *(int(keep.sum()) for keep in kept)]),
        np.concatenate([part.scores[keep] for part, _, keep in rows if part.scores is not None]) if scored else None,
    )
