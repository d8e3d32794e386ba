"""Lanes of one's own images: files of JSON lines, one image a line, its lanes as polylines; without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, is_number, unknown_name
from perception3d.datasets.lane_lists import require_inside
from perception3d.files import read_json_lines

Lane = npt.NDArray[np.float64]

EXAMPLE = '{"image": "images/a.jpg", "lanes": [[[700.5, 719], [650, 480]], [[120, 719], [430, 470]]]}'
SPLIT_FILE = '{}.json'
_KEYS = ('image', 'lanes', 'slots', 'scores', 'mask')


@dataclass(frozen=True)
class LaneLine:
    """One line of a file of lanes.

    Attributes:
        image: path of the image relative to the folder of the file.
        lanes: (M, 2) each, x and y in pixels; None where the image is not annotated.
        slots: that of each lane, -1 for none; None where the line states none.
        mask: path of the mask, where the line names one.
        place: file and line, for errors.
    """

    image: str
    lanes: tuple[Lane, ...] | None
    slots: tuple[int, ...] | None
    mask: str | None
    place: str


def slot_names(num_slots: int) -> tuple[str, ...]:
    """Returns the names of slots: left-2, left-1, right-1, right-2 of four, the middle two are those of the ego lane.

    Of one slot it is 'lane'; an odd number has no middle: lane-1, lane-2, ..

    Raises:
        InputError: there are fewer than 1 or more than 254.
    """
    if not 1 <= num_slots <= 254:
        raise InputError(f'{num_slots} slots: expected 1 to 254')
    if num_slots == 1:
        return ('lane',)
    if num_slots % 2:
        return tuple(f'lane-{k + 1}' for k in range(num_slots))
    half = num_slots // 2
    return (*(f'left-{half - k}' for k in range(half)), *(f'right-{k + 1}' for k in range(half)))


def read_lane_lines(path: str | Path) -> list[LaneLine]:
    """Returns the lines of a file of lanes such as EXAMPLE; `slots`, `scores` and `mask` may be added.

    Lanes may have any number of points, also outside the image.

    Raises:
        InputError: the file is missing or empty, a line is not JSON, has no image or an unknown key, an image is named
            twice or lies outside the folder, a point is not two finite numbers, or there is another number of slots
            than of lanes.
    """
    found: dict[str, LaneLine] = {}
    for place, entry in read_json_lines(path, f'write one line an image: {EXAMPLE}'):
        line = _parse(entry, place)
        name = line.image.rpartition('.')[0]
        if name in found:
            raise InputError(f'{place}: {line.image} is already in {found[name].place}: remove one of them')
        found[name] = line
    return list(found.values())


def _parse(entry: Any, place: str) -> LaneLine:
    if not isinstance(entry, dict) or not isinstance(entry.get('image'), str) or '.' not in entry['image']:
        raise InputError(f'{place}: expected {EXAMPLE}')
    for key in entry:
        if key not in _KEYS:
            raise unknown_name(f'key ({place})', key, _KEYS)
    image, mask = require_inside(entry['image'], f'{place}: image'), entry.get('mask')
    lanes, slots = entry.get('lanes'), entry.get('slots')
    if lanes is None:
        return LaneLine(image, None, None, None, place)
    if not isinstance(lanes, list):
        raise InputError(f'{place}: lanes: expected a list of lanes, each a list of [x, y]')
    polylines = tuple(_points(lane, f'{place}: lane {k}') for k, lane in enumerate(lanes))
    if slots is not None:
        whole = isinstance(slots, list) and all(type(slot) is int and slot >= -1 for slot in slots)
        if not whole or len(slots) != len(lanes):
            raise InputError(f'{place}: slots {slots!r}: expected a number for each of {len(lanes)} lanes, -1 for none')
        slots = tuple(slots)
    if mask is not None:
        if not isinstance(mask, str):
            raise InputError(f'{place}: mask {mask!r}: expected the path of a PNG as text')
        mask = require_inside(mask, f'{place}: mask')
    return LaneLine(image, polylines, slots, mask, place)


def _points(points: Any, place: str) -> Lane:
    pairs = isinstance(points, list) and all(isinstance(point, list) and len(point) == 2 for point in points)
    if not pairs or not all(is_number(value) for point in points for value in point):
        raise InputError(f'{place}: expected points [x, y] of finite numbers, got {str(points)[:80]}')
    return np.array(points, np.float64).reshape(-1, 2)


def format_line(
    image: str,
    lanes: Iterable[npt.NDArray[Any]],
    slots: Sequence[int] | npt.NDArray[Any] | None = None,
    scores: Sequence[float] | npt.NDArray[Any] | None = None,
) -> str:
    """Returns the JSON line of one image, with a line break: points to 1/1000 pixel, scores to four digits."""
    entry: dict[str, Any] = {'image': image}
    entry['lanes'] = [np.asarray(lane, np.float64).reshape(-1, 2).round(3).tolist() for lane in lanes]
    if slots is not None:
        entry['slots'] = [int(slot) for slot in slots]
    if scores is not None:
        entry['scores'] = [round(float(score), 4) for score in scores]
    return json.dumps(entry) + '\n'
