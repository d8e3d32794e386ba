"""Folders of KITTI label and result files as arrays, all frames one after another; it needs no torch.

Thousands of small files are read at once and their numbers are converted by one numba kernel. Whatever is not plain
(a wrong number of columns, a word, odd white space) is left to `files.read_objects`, which names file and line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from perception3d.checks import require_folder
from perception3d.evaluation.frame_lists import label_frames, require_frames
from perception3d.formats.kitti.files import read_objects

TYPES = ('car', 'pedestrian', 'cyclist', 'van', 'person_sitting', 'dontcare')
"""Types that a rule of the benchmark names, by code; all others have the code OTHER."""
OTHER = len(TYPES)
TRUNCATED, OCCLUDED, ALPHA, BOX_2D, HEIGHT, WIDTH, LENGTH, X, Y, Z, ROTATION_Y, SCORE = (
    0,
    1,
    2,
    3,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
)
_LONGEST = 16


@dataclass(frozen=True)
class FrameTable:
    """The N objects of F frames, in the order of the files.

    codes (N,) int64 index into TYPES or OTHER, by name without case; numbers (N, 14) the columns of a label line behind
    the type, or (N, 15) with the score; starts (F + 1,) int64: frame f has the rows starts[f] to starts[f + 1].
    """

    codes: np.ndarray
    numbers: np.ndarray
    starts: np.ndarray


def read_frames(folder: str | Path, frames: Sequence[str], scored: bool) -> FrameTable:
    """Returns the objects of the files `<frame>.txt` of a folder: labels, or results if `scored`.

    Raises InputError: frames that the folder lacks, and all that `read_objects` finds wrong with a line.
    """
    folder = require_folder(folder)
    require_frames(folder, frames, label_frames(folder), 'results' if scored else 'labels')
    parts = []
    for frame in frames:
        with open(f'{folder}/{frame}.txt', 'rb', 0) as file:
            parts.append(file.read())
    columns = 15 if scored else 14
    table = _parse(parts, columns)
    return table or _read_one_by_one([folder / f'{frame}.txt' for frame in frames], columns)


def _parse(parts: list[bytes], columns: int) -> FrameTable | None:
    """Returns the table of plain files, or None if there is anything that the kernel leaves to the slow reader."""
    ends = np.cumsum([0, *map(len, parts)])
    blob = b''.join(parts)
    most = blob.count(b'\n') + len(parts)
    numbers, codes = np.empty((most, columns)), np.empty(most, np.int64)
    starts, long_words = np.zeros(len(parts) + 1, np.int64), np.empty((most * columns, 3), np.int64)
    rows, words = _scan(np.frombuffer(blob, np.uint8), ends, _TYPE_BYTES, codes, numbers, starts, long_words)
    if rows < 0:
        return None
    flat = numbers.reshape(-1)
    try:
        for place, first, last in long_words[:words].tolist():
            flat[place] = float(blob[first:last])
    except ValueError:
        return None
    numbers = numbers[:rows]
    return FrameTable(codes[:rows], numbers, starts) if np.isfinite(numbers).all() else None


def _read_one_by_one(paths: Sequence[Path], columns: int) -> FrameTable:
    objects = [read_objects(path, scored=columns == 15) for path in paths]
    code_of = {name: code for code, name in enumerate(TYPES)}
    rows = [
        (o.truncated, o.occluded, o.alpha_rad, o.boxes_2d, o.sizes_m, o.places_m, o.rotation_y_rad) for o in objects
    ]
    if columns == 15:
        rows = [(*row, o.scores) for row, o in zip(rows, objects, strict=True)]
    return FrameTable(
        codes=np.array([code_of.get(str(name).lower(), OTHER) for o in objects for name in o.names], np.int64),
        numbers=np.concatenate([np.column_stack(row).reshape(-1, columns) for row in rows]),
        starts=np.cumsum([0, *map(len, objects)]),
    )


_TYPE_BYTES = np.array([list(name.encode().ljust(_LONGEST, b'\0')) for name in TYPES], np.uint8)


@njit(cache=True, nogil=True, error_model='numpy')
def _type_code(blob: np.ndarray, first: int, last: int, types: np.ndarray) -> int:
    for code in range(types.shape[0]):
        same = last - first < types.shape[1] and types[code, last - first] == 0
        k = 0
        while same and k < last - first:
            byte = blob[first + k]
            if 65 <= byte <= 90:
                byte += 32
            same = byte == types[code, k]
            k += 1
        if same:
            return code
    return types.shape[0]


@njit(cache=True, nogil=True, error_model='numpy')
def _plain_number(blob: np.ndarray, first: int, last: int) -> tuple[float, bool]:
    """Value of an ordinary decimal number, and whether it is one; dividing two exact numbers rounds correctly."""
    k, negative = first, False
    if blob[k] == 45 or blob[k] == 43:
        negative, k = blob[k] == 45, k + 1
    mantissa, digits, decimals, point = 0, 0, 0, False
    power = 1.0
    while k < last:
        byte = blob[k]
        if 48 <= byte <= 57:
            mantissa = mantissa * 10 + (byte - 48)
            digits += 1
            if point:
                decimals += 1
                power *= 10.0
        elif byte == 46 and not point:
            point = True
        else:
            return 0.0, False
        k += 1
    # 15 digits are below 2^53 and 10^15 is exact.
    if digits == 0 or digits > 15:
        return 0.0, False
    value = mantissa / power
    return -value if negative else value, True


@njit(cache=True, nogil=True, error_model='numpy')
def _scan(
    blob: np.ndarray,
    ends: np.ndarray,
    types: np.ndarray,
    codes: np.ndarray,
    numbers: np.ndarray,
    starts: np.ndarray,
    long_words: np.ndarray,
) -> tuple[int, int]:
    """Fills the arrays from the files blob[ends[f] : ends[f + 1]]; returns the rows and the words in `long_words`.

    A row of `long_words` is the place in `numbers` and the bytes of a word that no plain number is. Rows are -1 if a
    line has the wrong number of columns or there is white space other than blanks, tabs and line ends.
    """
    columns, rows, long_count = numbers.shape[1], 0, 0
    for frame in range(ends.shape[0] - 1):
        starts[frame] = rows
        k, stop, column = ends[frame], ends[frame + 1], 0
        while k < stop:
            byte = blob[k]
            if byte == 10:
                if column != 0 and column != columns + 1:
                    return -1, 0
                rows += column != 0
                column = 0
                k += 1
            elif byte == 32 or byte == 9 or (byte == 13 and k + 1 < stop and blob[k + 1] == 10):
                k += 1
            else:
                first = k
                while k < stop and 32 < blob[k] < 127:
                    k += 1
                if k == first or column > columns:
                    return -1, 0
                if column == 0:
                    codes[rows] = _type_code(blob, first, k, types)
                else:
                    value, plain = _plain_number(blob, first, k)
                    numbers[rows, column - 1] = value
                    if not plain:
                        long_words[long_count, 0] = rows * columns + column - 1
                        long_words[long_count, 1] = first
                        long_words[long_count, 2] = k
                        long_count += 1
                column += 1
        if column != 0 and column != columns + 1:
            return -1, 0
        rows += column != 0
    starts[ends.shape[0] - 1] = rows
    return rows, long_count
