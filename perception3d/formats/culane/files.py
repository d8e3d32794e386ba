"""CULane's files: names, splits, categories, `.lines.txt`, lists with existence; without torch, to start fast."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, require_file, require_folder
from perception3d.datasets.lane_lists import read_list

Lane = npt.NDArray[np.float64]

SLOTS = ('left-2', 'left-1', 'right-1', 'right-2')
"""The four lanes of a mask, values 1 to 4, left to right; the middle two are the borders of the ego lane."""
CATEGORIES = ('normal', 'crowd', 'hlight', 'shadow', 'noline', 'arrow', 'curve', 'cross', 'night')
"""The nine kinds of test images, as `list/test_split/test0_normal.txt` and so on name them."""
CATEGORY_FILES = tuple(f'list/test_split/test{k}_{name}.txt' for k, name in enumerate(CATEGORIES))
LINES_SUFFIX = '.lines.txt'
MASK_FOLDER = 'laneseg_label_w16'
LANE_WIDTH_PX = 16
STEERING_FILE = 'extra/steering.json'
DEPTH_FOLDER = 'extra/depth'
SEMANTIC_FOLDER = 'extra/semantic'

_PLAIN = re.compile(r'[\d\s.eE+-]*', re.ASCII)
# A stream takes an exponent without digits too, and finds then that it is no number.
_NUMBER = re.compile(r'\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d*)?)', re.ASCII)


def read_lines(path: str | Path) -> list[Lane]:
    """Returns the lanes of a `.lines.txt` as CULane's official evaluation reads them; a missing file has none.

    Every line of the file is a lane, (M, 2) float64 x and y in pixels, a blank one with M = 0. Numbers are read until
    the first text that is none, such as `nan`; a last number without its pair is left out.
    """
    path = Path(path)
    return parse_lines(path.read_bytes().decode('latin-1')) if path.is_file() else []


def parse_lines(text: str) -> list[Lane]:
    """Returns the lanes of the content of a `.lines.txt`, by the rules of `read_lines`."""
    lines = text.split('\n')
    # A line break ends a line: behind the last one there is none.
    return [_pairs(_numbers(line)) for line in (lines if lines[-1] else lines[:-1])]


def _pairs(numbers: Sequence[float]) -> Lane:
    return np.array(numbers[: len(numbers) // 2 * 2], np.float64).reshape(-1, 2)


def _numbers(line: str) -> list[float]:
    """Returns the numbers of a line as a C++ stream reads them: to the first text that is not a finite number."""
    if _PLAIN.fullmatch(line):
        try:
            numbers = [float(word) for word in line.split()]
        except ValueError:
            numbers = [math.inf]
        if all(map(math.isfinite, numbers)):
            return numbers
    numbers, place = [], 0
    while found := _NUMBER.match(line, place):
        try:
            number = float(found[1])
        except ValueError:
            break
        if not math.isfinite(number):
            break
        numbers.append(number)
        place = found.end()
    return numbers


def read_annotation(path: str | Path) -> list[Lane]:
    """Returns the lanes of an annotated `.lines.txt`; unlike results, which are counted as they are, it must be whole.

    Points may lie outside the image, and lanes may have one point or none.

    Raises:
        InputError: the file is missing, a line has an odd number of values, or one that is not a finite number.
    """
    path = require_file(path, 'unpack the annotations of CULane (annotations_new) into the folders of the images')
    text = path.read_bytes().decode('latin-1')
    lanes = parse_lines(text)
    for number, (line, lane) in enumerate(zip(text.split('\n'), lanes), start=1):
        words = line.split()
        if len(words) % 2:
            raise InputError(
                f'{path}, line {number}: {len(words)} values: expected pairs of x and y; copy the file again'
            )
        if len(words) != lane.size:
            wrong = [word for word in words if not _PLAIN.fullmatch(word) or len(_numbers(word)) != 1]
            raise InputError(
                f'{path}, line {number}: {wrong[0]!r} among the values: expected finite numbers, x and y in pixels; '
                'copy the file again'
            )
    return lanes


def format_lines(lanes: Iterable[npt.NDArray[Any]]) -> str:
    """Returns the content of a `.lines.txt`: a lane a line, x y pairs of six digits as C++ streams write them.

    Lanes go from the bottom of the image (largest y) upward, as in CULane's files; a lane the other way round is
    turned.

    Raises:
        InputError: a number is not finite.
    """
    return ''.join(_format_lane(np.asarray(lane, np.float64).reshape(-1, 2)) for lane in lanes)


def _format_lane(lane: Lane) -> str:
    if not np.isfinite(lane).all():
        raise InputError('a lane with values that are not finite cannot be written: leave such points out')
    upward = lane[::-1] if len(lane) and lane[0, 1] < lane[-1, 1] else lane
    return ''.join(f'{x:g} {y:g} ' for x, y in upward.tolist()) + '\n'


def read_categories(root: Path) -> dict[str, str]:
    """Returns frame id -> category, of the lists in `list/test_split` that are there.

    Raises:
        InputError: as of `read_list`; an image is in two lists.
    """
    found: dict[str, str] = {}
    if not (root / 'list/test_split').is_dir():
        return found
    for name, file in zip(CATEGORIES, CATEGORY_FILES):
        for frame_id in read_list(root / file) if (root / file).is_file() else ():
            if frame_id in found:
                raise InputError(f'{root / file}: {frame_id} is already of the category {found[frame_id]}: remove one')
            found[frame_id] = name
    return found


def require_root(root: str | Path) -> Path:
    """Returns the folder of a CULane tree.

    Raises:
        InputError: it is missing or has no lists.
    """
    folder = require_folder(Path(root).resolve(), 'give --root the folder that holds list/ and driver_*')
    require_folder(folder / 'list', 'unpack list.tar.gz of CULane')
    return folder
