"""The text files of LiDAR-only data: boxes of labels and of results, read with errors that name the line; no torch.

A label line is `x y z dx dy dz heading class` as in OpenPCDet's custom data sets, a result line has a score behind it.
Frame: x forward, y left, z up, metres. (x, y, z) is the MIDDLE of the box; dx, dy, dz are its length, width and
height; heading is 0 along x and grows towards y, radians.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, number_of_word
from perception3d.files import read_lines, write_whole

LABEL_LINE = 'x y z dx dy dz heading class'


@dataclass(frozen=True)
class BoxLabels:
    """The M boxes of a frame.

    boxes (M, 7) x, y, z of the BOTTOM's middle, l, w, h, yaw; names (M) strings; lines (M) their numbers in the file,
    from 1; scores (M,) of results, None for labels.
    """

    boxes: npt.NDArray[Any]
    names: list[str]
    lines: list[int]
    scores: npt.NDArray[Any] | None = None


def read_labels(path: str | Path, scored: bool = False) -> BoxLabels:
    """Returns the boxes of a label file, or of a result file if `scored`; an empty file has none.

    Raises InputError with file and line: a missing field, a word where a number belongs, NaN, a size of 0 or less.
    """
    path = Path(path)
    rows, names, lines = [], [], []
    for number, line in enumerate(read_lines(path), start=1):
        words = line.split()
        if not words:
            continue
        fault = _fault(words, scored)
        if fault:
            form = f'{LABEL_LINE} score' if scored else LABEL_LINE
            raise InputError(f'{path}, line {number}: {fault}; a line is: {form}')
        rows.append([number_of_word(word) for word in words[:7] + words[8:]])
        names.append(words[7])
        lines.append(number)
    table = np.array(rows, np.float64).reshape(-1, 8 if scored else 7)
    boxes = table[:, :7].copy()
    boxes[:, 2] -= boxes[:, 5] / 2
    return BoxLabels(boxes, names, lines, table[:, 7] if scored else None)


def _fault(words: list[str], scored: bool) -> str | None:
    expected = 9 if scored else 8
    if len(words) != expected:
        return f'{len(words)} fields, expected {expected}'
    for word in words[:7] + words[8:]:
        try:
            finite = np.isfinite(number_of_word(word))
        except ValueError:
            return f'{word!r} is not a number'
        if not finite:
            return f'{word} is not finite'
    if min(number_of_word(word) for word in words[3:6]) <= 0:
        return f'sizes dx dy dz of {" ".join(words[3:6])}, expected more than 0'
    if not re.fullmatch(r'[\w.+-]+', words[7]):
        return f'{words[7]!r} is not a class name: expected letters, digits, _ . + -'
    return None


def require_result_file(path: str | Path) -> None:
    """Raises InputError where there is a file at `path` that is not a result file, such as labels: it would be lost."""
    if not Path(path).is_file():
        return
    try:
        read_labels(path, scored=True)
    except InputError as error:
        raise InputError(f'{path} is not a result file and would be lost: choose another folder ({error})') from None


def write_labels(
    path: str | Path, boxes: npt.NDArray[Any], names: Sequence[str], scores: npt.NDArray[Any] | None = None
) -> None:
    """Writes a label file of boxes (M, 7) with the BOTTOM's middle, or with `scores` (M,) a result file.

    `read_labels` gives the boxes back to 1e-6 and the scores exactly.
    """
    middle = np.array(boxes, np.float64).reshape(-1, 7)
    middle[:, 2] += middle[:, 5] / 2
    # Nine digits keep a float32, and sizes that six decimals would round to 0.
    form = '.6f' if scores is None else '.9g'
    lines = [' '.join(f'{value:{form}}' for value in box) + f' {name}' for box, name in zip(middle, names, strict=True)]
    if scores is not None:
        lines = [f'{line} {float(score)!r}' for line, score in zip(lines, scores, strict=True)]
    with write_whole(path) as temporary:
        temporary.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
