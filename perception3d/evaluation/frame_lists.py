"""Folders of result files, one `.txt` a frame: which frames they hold, and which are missing or left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from perception3d.checks import InputError, require_folder


def list_frames(folder: str | Path) -> list[str]:
    """Returns the names of the frames that have a result file in `folder`, sorted.

    The pictures and JSON files that tools/infer.py writes next to the result files are left out.

    Raises InputError: no such folder, no file in it, something in it that is not a result file (the official tool would
    take it for frame 0), two files of the same frame.
    """
    folder = require_folder(folder)
    frames: list[tuple[str, str]] = []
    unexpected: list[tuple[str, str]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            (frames if suffix == '.txt' and entry.is_file() else unexpected).append((stem, entry.name))
    results = {stem for stem, _ in frames}
    unexpected = [
        (stem, name) for stem, name in unexpected if not (stem in results and name.endswith(('.png', '.json')))
    ]
    if unexpected:
        names = sorted(name for _, name in unexpected)
        if names == ['data'] or ('data' in names and not frames):
            raise InputError(f'{folder} holds a folder data and no result files: give {folder / "data"}')
        raise InputError(f'{folder} holds {_listed(names)}: not result files, leave only one .txt a frame there')
    if not frames:
        raise InputError(f'{folder} is empty: write one .txt a frame there, an empty one where nothing was detected')
    seen: dict[str, str] = {}
    for stem, name in sorted(frames):
        other = seen.setdefault(str(int(stem)) if stem.isascii() and stem.isdigit() else stem, name)
        if other != name:
            raise InputError(f'{folder} has frame {int(stem)} twice: {other} and {name}')
    return sorted(stem for stem, _ in frames)


def label_frames(folder: str | Path) -> list[str]:
    """Returns the names of the frames that have a label file in `folder`, sorted."""
    return sorted(name.removesuffix('.txt') for name in os.listdir(require_folder(folder)) if name.endswith('.txt'))


def describe_unscored(unscored: int) -> list[str]:
    """Returns a note on label files without a result file, if there are any."""
    if not unscored:
        return []
    files = '1 label file has' if unscored == 1 else f'{unscored} label files have'
    return [f'{files} no result file: those frames are not scored']


def require_frames(source: str | Path, frames: Sequence[str], available: Iterable[str], part: str = 'labels') -> None:
    """Raises InputError where some of the `frames` are not `available`; names `source`, which lacks their `part`."""
    found = set(available)
    missing = [frame for frame in frames if frame not in found]
    if missing:
        raise InputError(f'{source} has no {part} of frame {_listed(missing)} ({len(missing)} of {len(frames)} frames)')


def _listed(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')
