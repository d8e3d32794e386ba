"""LiDAR-only data of one's own: clouds and boxes, without images and calibrations.

The layout is that of OpenPCDet's custom data sets: `points/NAME.npy` or `.bin`, `labels/NAME.txt` with a line for each
box (see `lidar_files`), `ImageSets/train.txt`, `val.txt`, and what else of trainval and test there is.
"""

from __future__ import annotations

import os.path as osp
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from perception3d.checks import InputError, require_folder, unknown_name
from perception3d.datasets.cloud_columns import FEATURES_HINT, ColumnRanges
from perception3d.datasets.frame_building import (
    INFO_FILE,
    database_split,
    map_frames,
    read_splits,
    require_frame_files,
)
from perception3d.datasets.ground_truth_database import (
    new_database,
    require_own_files,
    write_database_info,
    write_objects_of_frame,
)
from perception3d.datasets.object_count import count_labels
from perception3d.datasets.point_clouds import read_cloud
from perception3d.files import write_pickle
from perception3d.formats.custom_boxes import FORMAT
from perception3d.formats.custom_boxes.files import read_labels
from perception3d.ops.inside_boxes import rows_in_boxes


@dataclass(frozen=True)
class Frame:
    """One frame to build; paths are relative to the root, `labels` is None where there are none."""

    frame_id: str
    points: str
    labels: str | None
    in_database: bool


def build_frame(
    frame: Frame, root: Path, num_features: int, database: Path
) -> tuple[dict[str, Any], list[dict[str, Any]], ColumnRanges]:
    """Returns the info of a frame, without label numbers, the entries of its objects in the database, and its columns.

    Raises InputError, which names the file, for points or labels that cannot be used.
    """
    points = read_cloud(root / frame.points, num_features, hint=FEATURES_HINT)
    columns = ColumnRanges.of(points)
    info: dict[str, Any] = {
        'frame_id': frame.frame_id,
        'labelled': frame.labels is not None,
        'lidar_points': {'num_pts_feats': num_features, 'lidar_path': frame.points},
        'instances': [],
    }
    if frame.labels is None:
        return info, [], columns
    labels = read_labels(root / frame.labels)
    rows = rows_in_boxes(points, labels.boxes)
    info['instances'] = [
        {'name': name, 'bbox_3d': labels.boxes[k].tolist(), 'num_lidar_pts': len(rows[k]), 'difficulty': 0}
        for k, name in enumerate(labels.names)
    ]
    if not frame.in_database:
        return info, [], columns
    easy = [0] * len(labels.names)
    entries = write_objects_of_frame(database, frame.frame_id, points, labels.boxes, rows, labels.names, easy)
    return info, entries, columns


def create_infos(
    root: str | Path,
    classes: Sequence[str] | None = None,
    num_features: int = 4,
    jobs: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Checks the tree, then writes the info file of every split of ImageSets, and the database of `train`.

    Where there is no `train`, the database is that of `trainval`.

    `classes` are those to keep, in the order of their labels; by default all that occur, by name. Frames of `test` may
    be without label files. Nothing is replaced before every frame was read. The result does not depend on `jobs`.

    Returns {'splits': split -> {'path', 'frames', 'classes': {name: count}, 'notes'}, 'database': {name: count},
    'columns': ColumnRanges of all clouds}; notes say how many objects are left out, and why.

    Raises:
        InputError: files are missing, which are counted and named, or one cannot be used, or a class never occurs.
    """
    root = require_folder(Path(root).resolve(), 'give --root the folder that holds ImageSets, points, labels')
    if num_features < 3:
        raise InputError(f'a point has {num_features} floats: expected at least x, y, z')
    splits = read_splits(root, r'[\w.+-]+', 'scan_0001')
    frames = _frames(root, splits)
    with new_database(root) as database:
        build = partial(build_frame, root=root, num_features=num_features, database=database)
        built = dict(zip(frames, map_frames(build, list(frames.values()), jobs, progress)))
        require_own_files(entry for _, entries, _ in built.values() for entry in entries)
        found = sorted({box['name'] for info, _, _ in built.values() for box in info['instances']})
        for name in classes or ():
            if name not in found:
                raise unknown_name(f'class (of {root}/labels)', name, found)
    kept = list(classes or found)
    counts = write_database_info(
        root, (entry for _, entries, _ in built.values() for entry in entries if entry['name'] in kept)
    )
    summary = {
        split: _write_split(root, split, [built[frame_id][0] for frame_id in ids], kept)
        for split, ids in splits.items()
    }
    columns = ColumnRanges.over(found for _, _, found in built.values())
    return {'splits': summary, 'database': counts, 'columns': columns}


def _frames(root: Path, splits: dict[str, list[str]]) -> dict[str, Frame]:
    """Returns frame id -> frame, after a check that every file is there."""
    stored = {folder: set(_names(root / folder)) for folder in ('points', 'labels')}
    must_have_labels = {frame_id for split, ids in splits.items() if split != 'test' for frame_id in ids}
    pasted = set(splits.get(database_split(splits) or '', ()))
    frames = {}
    for frame_id in dict.fromkeys(frame_id for ids in splits.values() for frame_id in ids):
        suffix = '.bin' if f'{frame_id}.bin' in stored['points'] else '.npy'
        labelled = frame_id in must_have_labels or f'{frame_id}.txt' in stored['labels']
        labels = f'labels/{frame_id}.txt' if labelled else None
        frames[frame_id] = Frame(frame_id, f'points/{frame_id}{suffix}', labels, frame_id in pasted)
    wanted = {
        'points': [osp.basename(frame.points) for frame in frames.values()],
        'labels': [osp.basename(frame.labels) for frame in frames.values() if frame.labels],
    }
    require_frame_files(root, wanted)
    return frames


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _write_split(root: Path, split: str, infos: list[dict[str, Any]], classes: list[str]) -> dict[str, Any]:
    """Numbers frames and labels and writes the info file of a split; returns what create_infos reports of it.

    Boxes of classes that are not kept have label -1.
    """
    infos = [{'sample_idx': index, **info} for index, info in enumerate(infos)]
    label_of = {name: label for label, name in enumerate(classes)}
    for info in infos:
        labels = [label_of.get(box['name'], -1) for box in info['instances']]
        info['instances'] = [
            {**box, 'bbox_label': label, 'bbox_label_3d': label} for box, label in zip(info['instances'], labels)
        ]
    metainfo = {'categories': label_of, 'dataset': FORMAT.name, 'split': split, 'info_version': '1.1'}
    path = root / INFO_FILE.format(split)
    write_pickle(path, {'metainfo': metainfo, 'data_list': infos})
    counts = Counter(box['name'] for info in infos for box in info['instances'])
    notes = count_labels(str(path), infos, classes).left_out()
    by_name = {name: counts[name] for name in sorted(counts)}
    return {'path': path, 'frames': len(infos), 'classes': by_name, 'notes': notes}
