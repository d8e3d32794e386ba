"""The ground-truth database: the points of every labelled object, to be pasted into other frames (SECOND, 2018).

Layout, as mmdet3d's DataBaseSampler reads it: `perception3d_gt_database/<frame>_<class>_<k>.bin`, float32 points with
x, y, z relative to the centre of the bottom of the box, and `perception3d_dbinfos_train.pkl`, class -> list of objects.
A box has 7 numbers, or 9 where the data set knows velocities.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError
from perception3d.files import read_json, write_bytes, write_json, write_pickle
from perception3d.outputs import safe_name

FOLDER = 'perception3d_gt_database'
INFO_FILE = 'perception3d_dbinfos_train.pkl'
_MARK = 'mark.json'


@contextmanager
def new_database(root: Path, mark: str | None = None) -> Iterator[Path]:
    """Yields an empty folder for the objects' files; on success it replaces the database of `root`.

    On an error the earlier database stays. Without a `mark` the new folder is removed then. With one it is kept, and a
    later call with the same mark yields it again, to resume; the mark identifies everything that the objects depend on.
    Files other than `.bin` are notes for that call and are not part of the database.
    """
    partial = root / f'.{FOLDER}.partial'
    stamp = partial / _MARK
    if mark is None or not stamp.is_file() or read_json(stamp) != mark:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    if mark is not None:
        write_json(stamp, mark)
    try:
        yield partial
    except BaseException:
        if mark is None:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    for path in partial.iterdir():
        if path.suffix != '.bin':
            path.unlink()
    shutil.rmtree(root / FOLDER, ignore_errors=True)
    partial.rename(root / FOLDER)


def write_objects_of_frame(
    folder: Path,
    frame_id: str,
    points: np.ndarray,
    boxes: np.ndarray,
    rows: Sequence[np.ndarray],
    names: Sequence[str],
    difficulties: Sequence[int],
) -> list[dict[str, Any]]:
    """Writes the points of a frame's objects to `folder`, one file per object; returns their database entries.

    Args:
        points: (N, F) float32.
        boxes: (M, 7), or (M, 9) with velocities, in the frame of the points; x, y, z are the centre of the bottom.
        rows: for each box the indices of the points in it, as `rows_in_boxes` returns them.
        names, difficulties: (M,).

    An object without points is left out: there is nothing to paste.
    """
    entries = []
    for k, name in enumerate(names):
        if not len(rows[k]):
            continue
        own = points[rows[k]]
        own[:, :3] -= boxes[k, :3]
        # The class name comes from the label file and may contain any character.
        file_name = f'{frame_id}_{safe_name(name)}_{k}.bin'
        write_bytes(folder / file_name, own)
        entries.append(
            {
                'name': str(name),
                'path': f'{FOLDER}/{file_name}',
                'image_idx': frame_id,
                'gt_idx': k,
                'box3d_lidar': boxes[k].astype(np.float32),
                'num_points_in_gt': len(own),
                'difficulty': int(difficulties[k]),
            }
        )
    return entries


def require_own_files(entries: Iterable[dict[str, Any]]) -> None:
    """Raises InputError if objects of two frames have one file name, as `c` of frame `a_b` and `b_c` of frame `a`."""
    frame_of: dict[str, str] = {}
    for entry in entries:
        other = frame_of.setdefault(entry['path'].casefold(), entry['image_idx'])
        if other != entry['image_idx']:
            raise InputError(
                f'frames {other} and {entry["image_idx"]} both have an object whose points go to {entry["path"]}: '
                'rename one of the frames'
            )


def write_database_info(root: Path, entries: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Writes the table of the database, objects in the order given, classes by name; returns class -> objects."""
    table: dict[str, list[dict[str, Any]]] = {}
    for group, entry in enumerate(entries):
        # mmdet3d pastes the objects of a group together; here every object is its own group.
        table.setdefault(entry['name'], []).append({**entry, 'group_id': group})
    write_pickle(root / INFO_FILE, dict(sorted(table.items())))
    return {name: len(table[name]) for name in sorted(table)}
