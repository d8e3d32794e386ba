"""What data sets of single frames share when their infos are built: split files, checks, and work in processes."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from perception3d.checks import InputError, require_folder
from perception3d.files import file_names, read_lines
from perception3d.workers import process_pool

SPLITS = ('train', 'val', 'trainval', 'test')
INFO_FILE = 'perception3d_infos_{}.pkl'
_WORTH_PROCESSES = 500


def read_splits(root: Path, id_pattern: str, id_example: str) -> dict[str, list[str]]:
    """Returns split -> frame ids, in the order of the lines, of the files ImageSets/{train,val,trainval,test}.txt.

    Splits without a file are left out. `id_pattern` is what a whole id must match.

    Raises:
        InputError: there is no such file, a file names no frames, or a line is not an id or repeats an earlier one.
    """
    folder = require_folder(root / 'ImageSets', 'it holds train.txt, val.txt, ..: one frame id a line')
    # Also what is a folder or a dangling link: reading it says so, where leaving it out would lose a split.
    splits = {name: folder / f'{name}.txt' for name in SPLITS if os.path.lexists(folder / f'{name}.txt')}
    if not splits:
        raise InputError(f'{folder} has none of {", ".join(f"{name}.txt" for name in SPLITS)}: one frame id a line')
    return {name: _read_ids(path, id_pattern, id_example) for name, path in splits.items()}


def database_split(splits: Iterable[str]) -> str | None:
    """Returns the split whose objects the ground-truth database gets: train, else trainval, else none."""
    there = set(splits)
    return next((split for split in ('train', 'trainval') if split in there), None)


def _read_ids(path: Path, id_pattern: str, id_example: str) -> list[str]:
    line_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        frame_id = line.strip()
        if not frame_id:
            continue
        if not re.fullmatch(id_pattern, frame_id):
            raise InputError(f'{path}, line {number}: {frame_id!r} is not a frame id such as {id_example}')
        if frame_id in line_of:
            raise InputError(
                f'{path}, line {number}: frame {frame_id} is already in line {line_of[frame_id]}: remove one of them'
            )
        line_of[frame_id] = number
    if not line_of:
        raise InputError(f'{path} names no frames: remove the file, or write one frame id a line')
    return list(line_of)


def require_frame_files(root: Path, wanted: Mapping[str, Iterable[str]]) -> None:
    """Raises InputError unless every file is there; `wanted` is folder -> file names, the folder relative to `root`.

    The error counts what is missing in each folder and names the first ones. A folder is listed once, which for
    thousands of files is far quicker than asking for each.
    """
    faults, missing, total = [], 0, 0
    for folder, names in wanted.items():
        names = list(names)
        total += len(names)
        present = file_names(root / folder)
        absent = [name for name in names if name not in present]
        if absent:
            missing += len(absent)
            some = ', '.join(absent[:3]) + (', ...' if len(absent) > 3 else '')
            faults.append(f'{len(absent)} in {folder} ({some})')
    if missing:
        raise InputError(
            f'{missing} of {total} files that ImageSets asks for are missing in {root}: {"; ".join(faults)}: unpack '
            'the archives completely, or take the frames out of ImageSets'
        )


def _usable_cores() -> int:
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)


def map_frames(
    build: Callable[[Any], Any],
    frames: Sequence[Any],
    jobs: int | None = None,
    progress: bool = True,
    task: str = 'building infos',
) -> list[Any]:
    """Returns [build(frame) for frame in frames], in that order, by `jobs` processes; `task` is what the progress says.

    By default one process a core, and one alone for few frames, which are done before others have started. `build` and
    the frames travel to the processes by pickle. The first error ends the work.
    """
    if jobs is None:
        jobs = _usable_cores() if len(frames) >= _WORTH_PROCESSES else 1
    if jobs < 1:
        raise InputError(f'cannot work with {jobs} jobs: give --jobs 1 or more')
    from tqdm import tqdm

    results = _results(partial(_packed, build), frames, min(jobs, len(frames)))
    bar = tqdm(results, total=len(frames), desc=task, unit='frame', disable=not progress)
    return [pickle.loads(result) for result in bar]


def _packed(build: Callable[[Any], Any], frame: Any) -> bytes:
    """Builds a frame and pickles it alone, so that files made of the results are the same byte for byte however the
    frames were shared out: a pickle holds an object that it meets twice only once.
    """
    return pickle.dumps(build(frame), protocol=4)


def _results(build: Callable[[Any], bytes], frames: Sequence[Any], jobs: int) -> Iterator[bytes]:
    # The first frame is built here, so that kernels are compiled once and not in every process.
    here = frames if jobs < 2 else frames[:1]
    yield from map(build, here)
    rest = frames[len(here) :]
    if not rest:
        return
    with process_pool(jobs) as pool:
        # A chunk is a fraction of a second of work: less talk between processes, and the bar still moves.
        yield from pool.map(build, rest, chunksize=max(1, min(32, len(rest) // (4 * jobs))))


def print_summary(summary: Mapping[str, Any], root: str | Path, uses_image_sets: bool = True) -> None:
    """Prints what a `create_infos` of single frames returned: files, frames, and objects of each class.

    With `uses_image_sets`, also the splits that ImageSets does not have. Without `database` nothing about one. With
    `columns`, the ranges of the columns of its clouds, also these, and a warning where they cannot be right.
    """
    splits, database = summary['splits'], summary.get('database')
    for split, entry in splits.items():
        print(f'{split}: {entry["frames"]} frames -> {entry["path"]}')
    absent = [split for split in SPLITS if split not in splits]
    if absent and uses_image_sets:
        print(f'left out, since ImageSets has no such file: {", ".join(absent)}')
    if database is not None:
        _print_database(database, database_split(splits), root, uses_image_sets)
    names = list(dict.fromkeys(name for entry in splits.values() for name in entry['classes']))
    columns = [(split, entry['classes']) for split, entry in splits.items()]
    columns += [] if database is None else [('database', database)]
    width = max(10, *(len(title) + 2 for title, _ in columns))
    print(f'{"objects":<22}' + ''.join(f'{title:>{width}}' for title, _ in columns))
    for name in names:
        print(f'{name:<22}' + ''.join(f'{counts.get(name, 0):>{width}}' for _, counts in columns))
    _print_columns_and_notes(summary)


def _print_database(database: Mapping[str, int], source: str | None, root: str | Path, uses_image_sets: bool) -> None:
    if source is None:
        reason = 'ImageSets has neither train.txt nor trainval.txt' if uses_image_sets else 'there is no split train'
        print(f'database: no objects, since {reason}')
    else:
        count = sum(database.values())
        print(f'database of {source}: {count} objects -> {Path(root) / "perception3d_gt_database"}')


def _print_columns_and_notes(summary: Mapping[str, Any]) -> None:
    columns = summary.get('columns')
    for line in () if columns is None else columns.lines():
        print(line)
    for split, entry in summary['splits'].items():
        for note in entry['notes']:
            print(f'note: {split}: {note}')
    for warning in () if columns is None else columns.warnings():
        print(f'warning: {warning}')


def print_point_summary(summary: Mapping[str, Any]) -> None:
    """Prints what a `create_infos` of labelled points returned: files, frames, and points of each class.

    With `columns`, the ranges of the columns of its clouds, also these, and a warning where they cannot be right.
    """
    splits = summary['splits']
    for split, entry in splits.items():
        print(f'{split}: {entry["frames"]} frames -> {entry["path"]}')
    names = list(dict.fromkeys(name for entry in splits.values() for name in entry['classes']))
    print(f'{"points":<22}' + ''.join(f'{split:>16}' for split in splits))
    for name in names:
        print(f'{name:<22}' + ''.join(f'{entry["classes"].get(name, 0):>16}' for entry in splits.values()))
    _print_columns_and_notes(summary)
