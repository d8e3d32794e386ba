"""Lists of images in CULane's layout, also with a mask and the existence of lanes; without torch, to start fast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from perception3d.checks import InputError
from perception3d.files import read_lines

_HINT = 'unpack the lists of the data set'


def read_list(path: str | Path) -> list[str]:
    """Returns the frame ids of a list of images, such as `list/test.txt`: the first word of each line, no suffix.

    Raises:
        InputError: the file is missing, a line is not the path of a `.jpg`, or repeats another one.
    """
    return [words[0] for words in _read_words(path)]


def read_gt_list(path: str | Path, num_slots: int) -> dict[str, tuple[str, list[int]]]:
    """Returns frame id -> (path of its mask relative to the root, existence of each slot), of such as `train_gt.txt`.

    Raises:
        InputError: as of `read_list`; a line is not an image, a mask `.png`, and num_slots numbers 0 or 1.
    """
    found = {}
    for number, (frame_id, *rest) in enumerate(_read_words(path), start=1):
        mask, exist = ''.join(rest[:1]).lstrip('/'), rest[1:]
        inside = mask.endswith('.png') and '..' not in mask.split('/')
        if not inside or len(exist) != num_slots or not set(exist) <= {'0', '1'}:
            raise InputError(
                f'{path}: image {number}, {frame_id}: expected IMAGE MASK.png and {num_slots} numbers 0 or 1, got '
                f'{" ".join(rest)[:120]!r}; remove the file, and tools/create_data.py writes it'
            )
        found[frame_id] = (mask, [int(word) for word in exist])
    return found


def format_gt_list(frames: Iterable[tuple[str, str, Sequence[int]]]) -> str:
    """Returns the content of `train_gt.txt` of frame ids, masks and existence."""
    return ''.join(
        f'/{frame_id}.jpg /{mask} {" ".join(map(str, map(int, exist)))}\n' for frame_id, mask, exist in frames
    )


def require_inside(name: str, place: str) -> str:
    """Returns the path of a file relative to the root of its data set, without a leading slash.

    Raises:
        InputError: it is empty or leads out of the root; names `place`.
    """
    inside = name.lstrip('/')
    if not inside or '..' in inside.split('/'):
        raise InputError(f'{place}: {name[:120]!r} is not the path of a file in the root')
    return inside


def _read_words(path: str | Path) -> list[list[str]]:
    """Returns the words of each line that is not blank, the first one as a frame id."""
    line_of: dict[str, int] = {}
    rows = []
    for number, line in enumerate(read_lines(path, _HINT), start=1):
        words = line.split()
        if not words:
            continue
        frame_id = words[0].lstrip('/').removesuffix('.jpg')
        if not words[0].endswith('.jpg') or '..' in frame_id.split('/') or not frame_id:
            raise InputError(
                f'{path}, line {number}: {words[0][:120]!r} is not an image such as '
                '/driver_23_30frame/05151640_0419.MP4/00000.jpg'
            )
        if frame_id in line_of:
            raise InputError(
                f'{path}, line {number}: {words[0]} is already in line {line_of[frame_id]}: remove one of them'
            )
        line_of[frame_id] = number
        rows.append([frame_id, *words[1:]])
    return rows
