"""The info files of JRDB, and its truth as text files for `tools/evaluate.py jrdb`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from perception3d.checks import InputError, require_folder
from perception3d.datasets.crowd_notes import count_notes, crowd_note
from perception3d.datasets.frame_building import INFO_FILE
from perception3d.datasets.track_velocities import track_velocities
from perception3d.files import read_yaml, write_pickle
from perception3d.formats.jrdb import FORMAT
from perception3d.formats.jrdb.annotations import Person, read_people, text_of_people
from perception3d.formats.jrdb.clouds import NUM_FEATURES, read_pcd, robot_from_lidars
from perception3d.formats.jrdb.files import write_frame
from perception3d.formats.jrdb.rules import CLASSES, FRAME_INTERVAL_S, VALIDATION, ignore_reason

TRUTH_FOLDER = 'perception3d_labels'
_CLOUDS = {'upper': 'pointclouds/upper_velodyne', 'lower': 'pointclouds/lower_velodyne'}
_CALIBRATIONS = ('defaults.yaml', 'lidars.yaml')


def read_lidars(root: Path) -> dict[str, npt.NDArray[Any]]:
    """Returns 'upper' and 'lower' -> robot_from_lidar (4, 4) of the tree; InputError where it cannot be read."""
    path = next(
        (root / 'calibration' / name for name in _CALIBRATIONS if (root / 'calibration' / name).is_file()), None
    )
    if path is None:
        raise InputError(f'{root}/calibration has none of {", ".join(_CALIBRATIONS)}: copy the calibration of JRDB')
    try:
        return robot_from_lidars(read_yaml(path))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f'{path} does not say where the two LiDARs are ({error}): copy it again') from None


def cloud_entry(upper: str, root: str, lidars: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Returns the entry `lidar_points` of an info or sample: a cloud of the upper LiDAR and the one below it.

    `upper` and the paths in it are relative to `root`, which may be '' for relative ones.
    """
    prefix = f'{root}/' if root else ''
    lower = upper.replace(_CLOUDS['upper'], _CLOUDS['lower'], 1)
    return {
        'lidar_path': f'{prefix}{upper}',
        'num_pts_feats': NUM_FEATURES,
        'parts': [
            {'path': f'{prefix}{path}', 'robot_from_lidar': lidars[name].tolist()}
            for name, path in (('upper', upper), ('lower', lower))
        ],
    }


def create_infos(root: str | Path) -> dict[str, Any]:
    """Checks a tree of JRDB, then writes its info files, and its truth as text files in `perception3d_labels`.

    A tree with `labels/` gives `val`, the seven sequences that the toolkit suggests, and `train`, the others; one
    without gives `test`. Clouds are not copied: a sample names both LiDARs, and LoadRobotPoints merges them.

    Returns:
        {'splits': split -> {'path', 'frames', 'classes': {name: count}, 'notes'}}; notes say how many
        people are ignored, and why.

    Raises:
        InputError: clouds or annotations are missing, which are counted and named, or one cannot be used.
    """
    root = require_folder(Path(root).resolve(), 'give --root the folder that holds pointclouds, labels, calibration')
    upper = require_folder(root / _CLOUDS['upper'], 'unpack the clouds of both LiDARs')
    lidars = read_lidars(root)
    sequences = sorted(path.name for path in upper.iterdir() if path.is_dir())
    if not sequences:
        raise InputError(f'{upper} holds no sequences: unpack the clouds of both LiDARs')
    labelled = (root / 'labels' / 'labels_3d').is_dir()
    built: dict[str, list[dict[str, Any]]] = {}
    truth: dict[str, list[Person]] = {}
    for sequence in sequences:
        people = read_people(root, sequence) if labelled else None
        names = list(people) if people is not None else sorted(path.stem for path in (upper / sequence).glob('*.pcd'))
        _require_clouds(root, sequence, names)
        split = 'test' if people is None else 'val' if sequence in VALIDATION else 'train'
        built.setdefault(split, []).extend(_infos(root, sequence, names, people, lidars))
        truth.update({f'{sequence}/{name}.txt': people[name] for name in names} if people is not None else {})
    for name, of_frame in truth.items():
        write_frame(root / TRUTH_FOLDER / name, text_of_people(of_frame))
    summary = {split: _write_split(root, split, infos) for split, infos in built.items() if infos}
    return {'splits': summary}


def _require_clouds(root: Path, sequence: str, names: list[str]) -> None:
    """Raises InputError unless both clouds of each frame are there, and the first ones can be read."""
    missing = []
    for folder in _CLOUDS.values():
        present = {path.name for path in (root / folder / sequence).glob('*.pcd')}
        missing += [f'{folder}/{sequence}/{name}.pcd' for name in names if f'{name}.pcd' not in present]
        if names and not missing:
            read_pcd(root / folder / sequence / f'{names[0]}.pcd')
    if missing:
        raise InputError(
            f'{len(missing)} of {2 * len(names)} clouds of {sequence} are missing in {root} ({", ".join(missing[:2])}'
            f'{", ..." if len(missing) > 2 else ""}): unpack the archives completely'
        )


def _infos(
    root: Path,
    sequence: str,
    names: list[str],
    people: dict[str, list[Person]] | None,
    lidars: dict[str, npt.NDArray[Any]],
) -> list[dict[str, Any]]:
    """Returns the infos of the frames of a sequence, without their number and labels."""
    times = [int(name) * FRAME_INTERVAL_S if name.isdecimal() else k * FRAME_INTERVAL_S for k, name in enumerate(names)]
    in_cloud = [[p for p in people[name] if p.box is not None] if people else [] for name in names]
    places = [{p.track_id: p.box[:2] for p in frame if p.box is not None} for frame in in_cloud]
    infos = []
    for name, time_s, frame, velocities in zip(names, times, in_cloud, track_velocities(times, places)):
        info: dict[str, Any] = {
            'frame_id': f'{sequence}_{name}',
            'scene_token': sequence,
            'timestamp': time_s,
            'labelled': people is not None,
            'lidar_points': cloud_entry(f'{_CLOUDS["upper"]}/{sequence}/{name}.pcd', '', lidars),
            'instances': [],
            'ignored': [],
        }
        for person in frame:
            box = person.box or ()
            entry = {
                'name': CLASSES[0],
                'bbox_3d': [*box, *velocities[person.track_id].tolist()],
                'track_id': person.track_id,
                'occlusion': person.occlusion,
                'num_lidar_pts': person.num_points,
            }
            reason = ignore_reason(box[0], box[1], (box[3], box[4], box[5]), person.num_points)
            if reason is None:
                info['instances'].append(entry)
            else:
                info['ignored'].append({**entry, 'reason': reason})
        infos.append(info)
    return infos


def _write_split(root: Path, split: str, infos: list[dict[str, Any]]) -> dict[str, Any]:
    """Numbers frames and labels and writes the info file of a split; returns what create_infos reports of it."""
    infos = [{'sample_idx': index, **info} for index, info in enumerate(infos)]
    for box in (box for info in infos for box in (*info['instances'], *info['ignored'])):
        box['bbox_label'] = box['bbox_label_3d'] = -1 if 'reason' in box else 0
    metainfo = {
        'categories': {name: label for label, name in enumerate(CLASSES)},
        'dataset': FORMAT.name,
        'split': split,
        'info_version': '1.1',
    }
    path = root / INFO_FILE.format(split)
    write_pickle(path, {'metainfo': metainfo, 'data_list': infos})
    kept = sum(len(info['instances']) for info in infos)
    notes = [*count_notes(infos), *crowd_note(infos, 'a box of JRDB has about 0.9 x 0.5 x 1.7 m')]
    return {'path': path, 'frames': len(infos), 'classes': {CLASSES[0]: kept}, 'notes': notes}
