"""Folders of KITTI label and result files as arrays, all frames one after another; it needs no torch.

numpy parses the lines of all files at once. Whatever it does not take (a wrong number of columns, a word) is left to
`files.read_objects`, which names file and line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import require_folder
from perception3d.evaluation.frame_lists import label_frames, require_frames
from perception3d.formats.kitti.files import read_objects
from perception3d.formats.kitti.rules import CATEGORIES, DONT_CARE

TYPES = tuple(name.lower() for name in (*CATEGORIES, DONT_CARE))
"""Types by code; all others have the code OTHER."""
OTHER = len(TYPES)
# Columns of a line behind its type.
TRUNCATED, OCCLUDED, ALPHA, BOX_2D, HEIGHT, WIDTH, LENGTH, X, Y, Z, ROTATION_Y, SCORE = (0, 1, 2, 3, *range(7, 15))


@dataclass(frozen=True)
class FrameTable:
    """The N objects of F frames, in the order of the files.

    codes (N,) int64 index into TYPES or OTHER, by name without case; numbers (N, 14) the columns of a label line behind
    the type, or (N, 15) with the score; starts (F + 1,) int64: frame f has the rows starts[f] to starts[f + 1].
    """

    codes: npt.NDArray[Any]
    numbers: npt.NDArray[Any]
    starts: npt.NDArray[Any]


def read_frames(folder: str | Path, frames: Sequence[str], scored: bool) -> FrameTable:
    """Returns the objects of the files `<frame>.txt` of a folder: labels, or results if `scored`.

    Raises InputError: frames that the folder lacks, and all that `read_objects` finds wrong with a line.
    """
    folder = require_folder(folder)
    require_frames(folder, frames, label_frames(folder), 'results' if scored else 'labels')
    contents = []
    for frame in frames:
        with open(f'{folder}/{frame}.txt', 'rb', 0) as file:
            contents.append(file.read())
    columns = 15 if scored else 14
    table = parse_lines(contents, columns)
    return table or _read_one_by_one([folder / f'{frame}.txt' for frame in frames], columns)


def parse_lines(contents: Sequence[bytes], columns: int) -> FrameTable | None:
    """Returns the table of files, a type and `columns` numbers a line; None if there is what numpy does not take."""
    lines: list[str] = []
    starts = [0]
    try:
        for content in contents:
            lines += [line for line in content.decode('ascii').split('\n') if line.strip()]
            starts.append(len(lines))
        if not lines:
            return FrameTable(np.zeros(0, np.int64), np.zeros((0, columns)), np.array(starts))
        # A longer type is cut, and then still none of TYPES.
        form = np.dtype([('type', 'U16'), ('numbers', 'f8', (columns,))])
        rows = np.loadtxt(lines, form, comments=None, ndmin=1)
    except ValueError:
        return None
    names, places = np.unique(rows['type'], return_inverse=True)
    numbers = np.ascontiguousarray(rows['numbers'])
    return FrameTable(_codes(names)[places], numbers, np.array(starts)) if np.isfinite(numbers).all() else None


def _codes(names: Sequence[str]) -> npt.NDArray[Any]:
    code_of = {name: code for code, name in enumerate(TYPES)}
    return np.array([code_of.get(str(name).lower(), OTHER) for name in names], np.int64)


def _read_one_by_one(paths: Sequence[Path], columns: int) -> FrameTable:
    objects = [read_objects(path, scored=columns == 15) for path in paths]
    rows: list[tuple[Any, ...]] = [
        (o.truncated, o.occluded, o.alpha_rad, o.boxes_2d, o.sizes_m, o.bottom_centers_m, o.rotation_y_rad)
        for o in objects
    ]
    if columns == 15:
        rows = [(*row, o.scores) for row, o in zip(rows, objects, strict=True)]
    return FrameTable(
        codes=_codes([name for part in objects for name in part.names]),
        numbers=np.concatenate([np.column_stack(row).reshape(-1, columns) for row in rows]),
        starts=np.cumsum([0, *map(len, objects)]),
    )
