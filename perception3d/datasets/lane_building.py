"""What the formats of lanes share when their infos are built: files of splits, and the table of lanes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError
from perception3d.datasets.frame_building import INFO_FILE
from perception3d.files import write_pickle


def require_lane_files(root: Path, wanted: Iterable[str], source: str) -> None:
    """Raises InputError unless all files, relative to root, are there; counts what is missing and names the first.

    Args:
        root: folder of the tree.
        wanted: paths of files.
        source: what asks for them, for the error, such as 'list/train.txt'.
    """
    wanted = list(wanted)
    missing = [name for name in wanted if not (root / name).is_file()]
    if missing:
        some = ', '.join(missing[:3]) + (', ...' if len(missing) > 3 else '')
        raise InputError(
            f'{len(missing)} of {len(wanted)} files that {source} asks for are missing in {root} ({some}): unpack the '
            f'archives completely, or take the images out of {source}'
        )


def write_lane_split(
    root: Path,
    split: str,
    infos: Sequence[Mapping[str, Any]],
    metainfo: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Numbers the infos of a split and writes its info file; returns what `print_lane_summary` reports of it.

    Args:
        root: folder of the tree.
        split: its name.
        infos: as of LaneDataset.
        metainfo: `dataset`, and `categories` (name of a slot -> its number).
        notes: for the table.
    """
    numbered = [{'sample_idx': index, **info} for index, info in enumerate(infos)]
    counts = dict.fromkeys((*metainfo['categories'], 'no slot'), 0)
    for info in infos:
        for slot in np.asarray(info.get('lane_slots', ()), np.int64).tolist():
            counts[list(counts)[slot]] += 1
    path = root / INFO_FILE.format(split)
    write_pickle(path, {'metainfo': {**metainfo, 'split': split, 'info_version': '1.1'}, 'data_list': numbered})
    return {'path': path, 'frames': len(infos), 'lanes': counts, 'notes': list(notes)}


def print_lane_summary(splits: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints for each split its file, its images, the lanes of each slot, and notes."""
    for split, entry in splits.items():
        print(f'{split}: {entry["frames"]} images -> {entry["path"]}')
    names = list(dict.fromkeys(name for entry in splits.values() for name in entry['lanes']))
    print(f'{"lanes":<22}' + ''.join(f'{split:>16}' for split in splits))
    for name in names:
        print(f'{name:<22}' + ''.join(f'{entry["lanes"].get(name, 0):>16}' for entry in splits.values()))
    for split, entry in splits.items():
        for note in entry['notes']:
            print(f'note: {split}: {note}')
