"""The ground-truth database: the points of every labelled object, to be pasted into other frames (SECOND, 2018).

Layout, as mmdet3d's DataBaseSampler reads it: `perception3d_gt_database/<frame>_<class>_<k>.bin`, float32 points with
x, y, z relative to the middle of the box's bottom, and `perception3d_dbinfos_train.pkl`, class -> list of objects.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.files import write_pickle

FOLDER = 'perception3d_gt_database'
INFO_FILE = 'perception3d_dbinfos_train.pkl'


@contextmanager
def new_database(root: Path) -> Iterator[Path]:
    """Gives an empty folder for the objects' files; on success it takes the place of the database of `root`.

    On an error it is removed, and the earlier database stays.
    """
    partial = root / f'.{FOLDER}.partial'
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        shutil.rmtree(root / FOLDER, ignore_errors=True)
        partial.rename(root / FOLDER)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_objects_of_frame(
    folder: Path,
    frame_id: str,
    points: np.ndarray,
    boxes: np.ndarray,
    rows: Sequence[np.ndarray],
    names: Sequence[str],
    difficulties: Sequence[int],
) -> list[dict[str, Any]]:
    """Writes the points of a frame's objects to `folder`, one file an object; returns what the database says of them.

    points (N, F) float32; boxes (M, 7) with the bottom's middle, in the frame of the points; `rows` the points in each
    box, as of `rows_in_boxes`; names and difficulties (M). An object without points is left out: there is nothing to
    paste.
    """
    entries = []
    for k, name in enumerate(names):
        if not len(rows[k]):
            continue
        own = points[rows[k]]
        own[:, :3] -= boxes[k, :3]
        own.tofile(folder / f'{frame_id}_{name}_{k}.bin')
        entries.append(
            {
                'name': str(name),
                'path': f'{FOLDER}/{frame_id}_{name}_{k}.bin',
                'image_idx': frame_id,
                'gt_idx': k,
                'box3d_lidar': boxes[k].astype(np.float32),
                'num_points_in_gt': len(own),
                'difficulty': int(difficulties[k]),
            }
        )
    return entries


def write_database_info(root: Path, entries: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Writes the table of the database, objects in the order given, classes by name; returns class -> objects."""
    table: dict[str, list[dict[str, Any]]] = {}
    for group, entry in enumerate(entries):
        # Every object is its own group: mmdet3d knows groups that are pasted together, KITTI has none.
        table.setdefault(entry['name'], []).append({**entry, 'group_id': group})
    write_pickle(root / INFO_FILE, dict(sorted(table.items())))
    return {name: len(table[name]) for name in sorted(table)}
