"""Info files of one's own clouds with a label for each point: `classes.json`, `ImageSets/`, `points/`, `labels/`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError, require_folder
from perception3d.datasets.cloud_columns import FEATURES_HINT, ColumnRanges
from perception3d.datasets.frame_building import INFO_FILE, map_frames, read_splits, require_frame_files
from perception3d.datasets.point_clouds import read_cloud
from perception3d.files import write_pickle
from perception3d.formats.custom_points import FORMAT
from perception3d.formats.custom_points.files import (
    CLASSES_FILE,
    PointClasses,
    cloud_name,
    read_classes,
    require_label_for_each_point,
)
from perception3d.structures.point_labels import IGNORE


@dataclass(frozen=True)
class Frame:
    """One frame to build; paths are relative to the root, `labels` is None where there are none."""

    frame_id: str
    points: str
    labels: str | None


def build_frame(
    frame: Frame, root: Path, num_features: int, classes: PointClasses
) -> tuple[dict[str, Any], dict[str, int], ColumnRanges]:
    """Returns the info of a frame, how many of its points each class has, and 'not scored', and its columns.

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
        return info, {}, columns
    encoding = classes.encoding()
    path = root / frame.labels
    stored = encoding.read(path)
    require_label_for_each_point(path, len(stored), root / frame.points, points)
    labels = encoding.labels(stored, path)
    info['pts_semantic_mask_path'] = frame.labels
    counts = np.bincount(labels, minlength=IGNORE + 1).tolist()
    return info, {**dict(zip(encoding.classes, counts)), 'not scored': counts[IGNORE]}, columns


def create_infos(
    root: str | Path, num_features: int = 4, jobs: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Checks the tree, then writes the info file of every split of ImageSets.

    Frames of `test` may be without label files. Nothing is replaced before every frame was read. The result does not
    depend on `jobs`.

    Returns {'splits': split -> {'path', 'frames', 'classes': {name: points}, 'notes'}, 'columns': ColumnRanges of all
    clouds}.

    Raises:
        InputError: files are missing, which are counted and named, or one cannot be used.
    """
    root = require_folder(
        Path(root).resolve(), f'give --root the folder that holds {CLASSES_FILE}, ImageSets, points, labels'
    )
    if num_features < 3:
        raise InputError(f'a point has {num_features} floats: expected at least x, y, z')
    classes = read_classes(root / CLASSES_FILE)
    splits = read_splits(root, r'[\w.+-]+', 'scan_0001')
    frames = _frames(root, splits)
    build = partial(build_frame, root=root, num_features=num_features, classes=classes)
    built = dict(zip(frames, map_frames(build, list(frames.values()), jobs, progress)))
    return {
        'splits': {
            split: _write_split(root, split, [built[frame_id][:2] for frame_id in ids], classes)
            for split, ids in splits.items()
        },
        'columns': ColumnRanges.over(columns for _, _, columns in built.values()),
    }


def _frames(root: Path, splits: Mapping[str, Sequence[str]]) -> dict[str, Frame]:
    """Returns frame id -> frame, after a check that every file is there."""
    stored = {part: set(os.listdir(root / part)) if (root / part).is_dir() else set() for part in ('points', 'labels')}
    annotated = {frame_id for split, ids in splits.items() if split != 'test' for frame_id in ids}
    frames = {}
    for frame_id in dict.fromkeys(frame_id for ids in splits.values() for frame_id in ids):
        points = cloud_name(root / 'points', frame_id, stored['points'])
        labelled = frame_id in annotated or f'{frame_id}.label' in stored['labels']
        labels = f'labels/{frame_id}.label' if labelled else None
        frames[frame_id] = Frame(frame_id, f'points/{points}', labels)
    wanted = {
        'points': [os.path.basename(frame.points) for frame in frames.values()],
        'labels': [os.path.basename(frame.labels) for frame in frames.values() if frame.labels],
    }
    require_frame_files(root, wanted)
    return frames


def _write_split(
    root: Path, split: str, built: Sequence[tuple[dict[str, Any], dict[str, int]]], classes: PointClasses
) -> dict[str, Any]:
    """Numbers the frames and writes the info file of a split; returns what create_infos reports of it."""
    infos = [{'sample_idx': index, **info} for index, (info, _) in enumerate(built)]
    points = {name: sum(counts.get(name, 0) for _, counts in built) for name in (*classes.ids, 'not scored')}
    metainfo = {
        'categories': {name: label for label, name in enumerate(classes.ids)},
        'dataset': FORMAT.name,
        'split': split,
        'point_classes': classes.to_plain(),
        'points': {name: points[name] for name in classes.ids},
        'info_version': '1.1',
    }
    path = root / INFO_FILE.format(split)
    write_pickle(path, {'metainfo': metainfo, 'data_list': infos})
    absent = [name for name in classes.ids if not points[name]]
    labelled = any(info['labelled'] for info in infos)
    notes = [f'no points of {", ".join(absent)}'] if absent and labelled else []
    return {'path': path, 'frames': len(infos), 'classes': points, 'notes': notes}
