"""Info files of a SemanticKITTI tree, after a check of every file of its sequences."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, require_folder
from perception3d.datasets.frame_building import INFO_FILE, map_frames
from perception3d.files import write_pickle
from perception3d.formats.semantickitti import FORMAT
from perception3d.formats.semantickitti.files import (
    LABEL_IDS,
    MULTI_SCAN_CLASSES,
    POINT_FEATURES,
    SEQUENCES,
    class_of,
    label_encoding,
)
from perception3d.formats.semantickitti.poses import read_poses, read_times

Counts = dict[int, int]
_BYTES_A_POINT = 4 * POINT_FEATURES
_LAYOUT = 'the tree is DIR/sequences/00/velodyne/000000.bin, ../labels/000000.label, ../calib.txt, ../poses.txt'


@dataclass(frozen=True)
class Scan:
    """One scan to build; paths are relative to the root, `labels` is None where there are none."""

    frame_id: str
    points: str
    labels: str | None


def build_scan(scan: Scan, root: Path) -> tuple[dict[str, Any], Counts]:
    """Returns the info of a scan, and how many of its points have each label id.

    Raises InputError, which names the file, for a scan without points, or labels that do not fit it.
    """
    path = root / scan.points
    size = path.stat().st_size
    if size % _BYTES_A_POINT:
        raise InputError(
            f'{path} is truncated: {size} bytes is not a multiple of {_BYTES_A_POINT} ({POINT_FEATURES} floats a point)'
        )
    if not size:
        raise InputError(f'{path} holds no points: copy the file again, or remove it and its label file')
    info: dict[str, Any] = {
        'frame_id': scan.frame_id,
        'labelled': scan.labels is not None,
        'lidar_points': {'num_pts_feats': POINT_FEATURES, 'lidar_path': scan.points},
        'instances': [],
        'scene_token': scan.frame_id.partition('_')[0],
    }
    if scan.labels is None:
        return info, {}
    encoding = label_encoding(MULTI_SCAN_CLASSES)
    stored = encoding.read(root / scan.labels, size // _BYTES_A_POINT)
    encoding.labels(stored, root / scan.labels)
    info['pts_semantic_mask_path'] = scan.labels
    counts = np.bincount(encoding.ids(stored))
    return info, {int(number): int(counts[number]) for number in np.flatnonzero(counts)}


def create_infos(
    root: str | Path, multi_scan: bool = False, jobs: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Checks the tree, then writes the info file of every split of which there is a sequence.

    Sequences may be missing. Those of `test` may be without labels. An info has the pose of its scan where its sequence
    has `calib.txt` and `poses.txt`, and its time where it has `times.txt`; with `multi_scan` poses are required.
    Nothing is replaced before every scan was checked. The result does not depend on `jobs`.

    Returns {'splits': split -> {'path', 'frames', 'classes': {name: points}, 'notes'}}, classes of the multi scan
    benchmark.

    Raises:
        InputError: there are no sequences, files are missing, or one cannot be used; names the file.
    """
    root = require_folder(Path(root).resolve(), 'give --root the folder that holds sequences/')
    folder = require_folder(root / 'sequences', _LAYOUT)
    known = sorted({name for names in SEQUENCES.values() for name in names})
    there = [name for name in known if (folder / name).is_dir()]
    if not there:
        raise InputError(f'{folder} has none of the sequences {known[0]} to {known[-1]}: {_LAYOUT}')
    scans = {name: _scans(root, name) for name in there}
    motions = {name: _motion(folder / name, scans[name], multi_scan) for name in there}
    flat = [scan for name in there for scan in scans[name]]
    built = iter(map_frames(partial(build_scan, root=root), flat, jobs, progress))
    by_sequence = {name: [_with_motion(next(built), motions[name]) for _ in scans[name]] for name in there}
    splits = {split: [name for name in names if name in there] for split, names in SEQUENCES.items()}
    return {
        'splits': {
            split: _write_split(root, split, [entry for name in names for entry in by_sequence[name]], names)
            for split, names in splits.items()
            if names
        }
    }


def _scans(root: Path, sequence: str) -> list[Scan]:
    """Returns the scans of a sequence, after a check that all have labels, or none of a sequence of test."""
    folder = root / 'sequences' / sequence
    names = _stems(require_folder(folder / 'velodyne', _LAYOUT), '.bin')
    if not names:
        raise InputError(f'{folder / "velodyne"} holds no scans (.bin): unpack the archive completely')
    strange = [name for name in names if not (len(name) == 6 and name.isdigit())]
    if strange:
        raise InputError(f'{folder / "velodyne" / strange[0]}.bin is not a scan: expected six digits, such as 000000')
    labels = folder / 'labels'
    labelled = sequence not in SEQUENCES['test'] or labels.is_dir()
    if labelled:
        _require_label_files(labels, names, sequence)
    here = f'sequences/{sequence}'
    return [
        Scan(f'{sequence}_{name}', f'{here}/velodyne/{name}.bin', f'{here}/labels/{name}.label' if labelled else None)
        for name in names
    ]


def _require_label_files(folder: Path, scans: Sequence[str], sequence: str) -> None:
    require_folder(folder, f'sequence {sequence} is annotated: unpack the labels into {folder}')
    stored = _stems(folder, '.label')
    for these, others, fault in (
        (scans, set(stored), f'of {len(scans)} scans have no label file in {folder}'),
        (stored, set(scans), f'of {len(stored)} label files in {folder} have no scan'),
    ):
        missing = [name for name in these if name not in others]
        if missing:
            raise InputError(f'{len(missing)} {fault} (first: {missing[0]}): unpack both archives completely')


def _stems(folder: Path, suffix: str) -> list[str]:
    return sorted(name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix))


@dataclass(frozen=True)
class _Motion:
    """Where the LiDAR was at each scan of a sequence, and when; None where that is not known."""

    global_from_lidar: npt.NDArray[np.float64] | None
    times_s: npt.NDArray[np.float64] | None


def _motion(folder: Path, scans: Sequence[Scan], needed: bool) -> _Motion:
    """Returns poses and times of a sequence; its last scan must have a line in both files."""
    count = int(scans[-1].frame_id.partition('_')[2]) + 1
    have_poses = needed or all((folder / name).is_file() for name in ('calib.txt', 'poses.txt'))
    times = folder / 'times.txt'
    return _Motion(
        read_poses(folder, count) if have_poses else None, read_times(times, count) if times.is_file() else None
    )


def _with_motion(built: tuple[dict[str, Any], Counts], motion: _Motion) -> tuple[dict[str, Any], Counts]:
    """Adds pose and time to an info; a scan is known by the line of its number."""
    info, counts = built
    line = int(info['frame_id'].partition('_')[2])
    if motion.global_from_lidar is not None:
        info['global_from_lidar'] = motion.global_from_lidar[line].tolist()
    if motion.times_s is not None:
        info['timestamp'] = float(motion.times_s[line])
    return info, counts


def _write_split(
    root: Path, split: str, built: Sequence[tuple[dict[str, Any], Counts]], sequences: Sequence[str]
) -> dict[str, Any]:
    """Numbers the scans and writes the info file of a split; returns what create_infos reports of it."""
    infos = [{'sample_idx': index, **info} for index, (info, _) in enumerate(built)]
    points = dict.fromkeys(MULTI_SCAN_CLASSES, 0)
    names = {number: class_of(name, True) for name, number in LABEL_IDS.items()}
    unscored = 0
    for _, counts in built:
        for number, count in counts.items():
            name = names[number]
            if name is None:
                unscored += count
            else:
                points[name] += count
    metainfo = {
        'categories': {name: label for label, name in enumerate(MULTI_SCAN_CLASSES)},
        'dataset': FORMAT.name,
        'split': split,
        'sequences': list(sequences),
        'points': points,
        'info_version': '1.1',
    }
    path = root / INFO_FILE.format(split)
    write_pickle(path, {'metainfo': metainfo, 'data_list': infos})
    return {
        'path': path,
        'frames': len(infos),
        'classes': {**points, 'not scored': unscored},
        'notes': _notes(split, sequences, infos),
    }


def _notes(split: str, sequences: Sequence[str], infos: Sequence[dict[str, Any]]) -> list[str]:
    notes = []
    missing = [name for name in SEQUENCES[split] if name not in sequences]
    if missing:
        notes.append(f'without sequences {", ".join(missing)}, which are not there')
    without = sorted({info['scene_token'] for info in infos if 'global_from_lidar' not in info})
    if without:
        notes.append(f'no poses of sequences {", ".join(without)} (calib.txt, poses.txt) for several scans')
    return notes
