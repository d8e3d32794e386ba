"""The ground-truth database of a nuScenes split: the points of every object in ten sweeps, and its velocity.

Files and table are those of `ground_truth_database`. Points have x, y, z, intensity and age in seconds; boxes have 9
numbers, velocities that nuScenes does not know being NaN. Objects are those with a LiDAR or radar point in the
keyframe, as in the databases of CenterPoint and of mmdet3d; without a point in the ten sweeps there is none to paste.
"""

from __future__ import annotations

import hashlib
import os.path as osp
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, unknown_name
from perception3d.datasets.frame_building import map_frames
from perception3d.datasets.ground_truth_database import new_database, write_database_info, write_objects_of_frame
from perception3d.datasets.point_clouds import read_cloud, read_sweep
from perception3d.files import read_pickle, write_pickle
from perception3d.ops.inside_boxes import rows_in_boxes

SWEEPS = 9
"""Sweeps before the keyframe, the newest ones; CenterPoint and mmdet3d train on as many."""
NUM_FEATURES = 5
FORMAT = 1  # raise it when the objects of the same infos change, so that half-done work of an older version is not used


@dataclass(frozen=True)
class Frame:
    """One keyframe to cut up.

    path: the keyframe's cloud. sweeps: entries of the info's `lidar_sweeps`, newest first, with absolute paths. boxes:
    (M, 9) in the LiDAR frame: x, y, z of the bottom's middle, l, w, h, yaw, vx, vy. names: (M) classes.
    """

    frame_id: str
    path: str
    time_s: float
    sweeps: list[dict[str, Any]]
    boxes: npt.NDArray[Any]
    names: list[str]


def find_train_split(splits: Iterable[str]) -> str:
    """Returns the split named train or ..._train; InputError where there is none, or several."""
    splits = list(splits)
    found = [name for name in splits if name == 'train' or name.endswith('_train')]
    if len(found) != 1:
        raise InputError(
            f'cannot tell which of the splits {", ".join(splits)} to make the database of: say it, as in --database '
            f'{(found or splits)[0]}'
        )
    return found[0]


def read_frames(info_path: str | Path) -> list[Frame]:
    """Returns the keyframes of an info file of `tools/create_data.py nuscenes`, in its order.

    Raises InputError where the infos have no annotations.
    """
    content = read_pickle(info_path)
    root = str(Path(info_path).parent)
    names = list(content['metainfo']['categories'])
    frames = [_frame(info, names, root) for info in content['data_list']]
    if not any(frame.names for frame in frames):
        raise InputError(f'{info_path} has no annotated objects to make a database of: choose another split')
    return frames


def _frame(info: dict[str, Any], names: list[str], root: str) -> Frame:
    valid = [box for box in info['instances'] if box['bbox_3d_isvalid']]
    boxes = np.array([[*box['bbox_3d'], *box['velocity']] for box in valid], np.float64).reshape(-1, 9)
    boxes[:, 2] -= boxes[:, 5] / 2
    sweeps = []
    for sweep in info['lidar_sweeps'][:SWEEPS]:
        points = sweep['lidar_points']
        located = {**points, 'lidar_path': osp.join(root, points['lidar_path'])}
        sweeps.append({'timestamp': sweep['timestamp'], 'lidar_points': located})
    path = osp.join(root, info['lidar_points']['lidar_path'])
    labels = [names[box['bbox_label_3d']] for box in valid]
    return Frame(f'{info["sample_idx"]:06d}', path, info['timestamp'], sweeps, boxes, labels)


def load_sweeps(frame: Frame) -> npt.NDArray[Any]:
    """Returns the points (N, 5) float32 of a keyframe and of the sweeps before it, in the keyframe's LiDAR frame.

    The cloud that CenterPoint's configs load, without torch: processes start in a fraction of the time.
    """
    points = read_cloud(frame.path, NUM_FEATURES)
    points[:, 4] = 0
    earlier = [read_sweep(sweep, frame.time_s, NUM_FEATURES, remove_close=True) for sweep in frame.sweeps]
    return np.concatenate([points, *earlier])


def cut_objects(frame: Frame, database: Path) -> list[dict[str, Any]]:
    """Writes the objects of a frame to the folder `database`; returns what the database's table says of them.

    A note next to them lets a later call for the same frame return at once.
    """
    note = database / f'{frame.frame_id}.pkl'
    if note.is_file():
        known: list[dict[str, Any]] = read_pickle(note)
        return known
    points = load_sweeps(frame)
    rows = rows_in_boxes(points, frame.boxes[:, :7])
    easy = [0] * len(frame.names)
    entries = write_objects_of_frame(database, frame.frame_id, points, frame.boxes, rows, frame.names, easy)
    write_pickle(note, entries)
    return entries


def create_database(
    info_paths: dict[str, Path], split: str | None = None, jobs: int | None = None, progress: bool = True
) -> tuple[str, dict[str, int]]:
    """Writes the database of a split next to its info file; returns the split and class -> objects.

    `info_paths` is split -> info file of `tools/create_data.py nuscenes`; by default the split is the one named train
    or ..._train. The result does not depend on `jobs`, the number of processes (default: see map_frames). A call that
    follows an interruption continues with the frames that are left, as long as the infos are the same; the earlier
    database stays until the last frame is done.

    Raises:
        InputError: an unknown split, one without annotations, or a cloud that cannot be used.
    """
    split = find_train_split(info_paths) if split is None else split
    if split not in info_paths:
        raise unknown_name('split', split, info_paths)
    path = info_paths[split]
    frames = read_frames(path)
    mark = hashlib.sha1(path.read_bytes()).hexdigest()
    with new_database(path.parent, f'{FORMAT} {SWEEPS} {mark}') as database:
        cut = partial(cut_objects, database=database)
        cut_frames = map_frames(cut, frames, jobs, progress, 'cutting out objects')
    return split, write_database_info(path.parent, (entry for entries in cut_frames for entry in entries))
