"""The info files of STCrowd: what its own converter does, without its faults.

The converter of the release puts a box at the origin into frames without people, drops sitting people so that they
count as background, and calls p(t-1) - p(t) the velocity, 0 where it is unknown. Here empty frames stay empty, people
who do not count are listed as `ignored` with the reason, and velocities are in m/s with the right sign, NaN where they
are not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, require_folder
from perception3d.datasets.crowd_notes import count_notes, crowd_note
from perception3d.datasets.frame_building import INFO_FILE, map_frames
from perception3d.datasets.ground_truth_database import new_database, write_database_info, write_objects_of_frame
from perception3d.datasets.lane_files import image_hw
from perception3d.datasets.point_clouds import read_cloud
from perception3d.datasets.track_velocities import track_velocities
from perception3d.files import write_pickle
from perception3d.formats.stcrowd import FORMAT
from perception3d.formats.stcrowd.files import (
    NUM_FEATURES,
    Camera,
    Frame,
    Person,
    Sequence,
    find_stored,
    frame_token,
    read_camera,
    read_sequence,
    read_split,
)
from perception3d.formats.stcrowd.rules import CLASSES, FRAME_INTERVAL_S, ignore_reason
from perception3d.formats.stcrowd.yaw_sign import find_yaw_sign
from perception3d.ops.inside_boxes import rows_in_boxes

_SPLIT_WITHOUT_LABELS = 'test'


@dataclass(frozen=True)
class FrameToBuild:
    """One frame to build.

    Attributes:
        token: its name in the data set.
        sequence: its sequence, as the file is called.
        cloud, image: files relative to the root; image is '' without one.
        time_s: seconds.
        people: those of the cloud, None where the frame is not labelled.
        velocities: (M, 2) m/s, NaN where unknown.
        in_database: whether its people go into the ground-truth database.
    """

    token: str
    sequence: str
    cloud: str
    image: str
    time_s: float
    people: tuple[Person, ...] | None
    velocities: npt.NDArray[Any]
    in_database: bool


def frame_times(frames: tuple[Frame, ...]) -> list[float]:
    """Returns the time of each frame in seconds: that in the name of its cloud, or 0.4 s a frame.

    Names count if all of them are numbers that grow, as in the release, where they are Unix times.
    """
    try:
        times = [float(Path(frame.cloud_path).stem) for frame in frames]
    except ValueError:
        times = []
    grows = all(late - early >= FRAME_INTERVAL_S / 2 for early, late in zip(times, times[1:]))
    if len(times) == len(frames) and grows and times and times[0] > 1e6:
        return times
    return [frame.frame_id * FRAME_INTERVAL_S for frame in frames]


def velocities_of(sequence: Sequence) -> list[npt.NDArray[Any]]:
    """Returns for each frame (M, 2) velocities in m/s in its LiDAR frame: see `track_velocities`; NaN without a track.

    There are no poses: they are those seen from the LiDAR.
    """
    places = [
        {person.track_id: person.center_m[:2] for person in frame.people if person.track_id is not None}
        for frame in sequence.frames
    ]
    by_track = track_velocities(frame_times(sequence.frames), places)
    unknown = np.full(2, np.nan)
    return [
        np.array([unknown if p.track_id is None else own[p.track_id] for p in frame.people]).reshape(-1, 2)
        for frame, own in zip(sequence.frames, by_track)
    ]


def bottom_boxes(people: tuple[Person, ...], yaw_sign: int = 1) -> npt.NDArray[Any]:
    """Returns boxes (M, 7): x, y, z of the BOTTOM's middle, l, w, h, yaw from x to y in -pi..pi."""
    boxes = np.array([[*p.center_m, *p.size_m, yaw_sign * p.yaw_rad] for p in people], np.float64).reshape(-1, 7)
    boxes[:, 2] -= boxes[:, 5] / 2
    boxes[:, 6] = (boxes[:, 6] + math.pi) % (2 * math.pi) - math.pi
    return boxes


def camera_entry(camera: Camera, image: str, root: Path) -> dict[str, Any]:
    """Returns the entry of the left camera in an info, as mmdet3d has it; `image` is relative to `root`."""
    height, width = image_hw(root / image)
    return {
        'img_path': image,
        'cam2img': camera.img_from_cam.tolist(),
        'lidar2cam': camera.cam_from_lidar.tolist(),
        'lidar2img': (camera.img_from_cam @ camera.cam_from_lidar).tolist(),
        'height': height,
        'width': width,
    }


def build_frame(
    frame: FrameToBuild, root: Path, camera: Camera | None, yaw_sign: int, database: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the info of a frame and the entries of its people in the database, whose files it writes there.

    Raises InputError, which names the file, for points or an image that cannot be used.
    """
    points = read_cloud(root / frame.cloud, NUM_FEATURES)
    info: dict[str, Any] = {
        'frame_id': frame.token,
        'scene_token': frame.sequence,
        'timestamp': frame.time_s,
        'labelled': frame.people is not None,
        'lidar_points': {'num_pts_feats': NUM_FEATURES, 'lidar_path': frame.cloud},
        'images': {},
        'instances': [],
        'ignored': [],
    }
    if camera is not None and frame.image:
        info['images']['left'] = camera_entry(camera, frame.image, root)
    people = frame.people or ()
    boxes = np.column_stack([bottom_boxes(people, yaw_sign), frame.velocities])
    rows = rows_in_boxes(points, boxes[:, :7])
    kept = []
    for k, person in enumerate(people):
        reason = ignore_reason(person.center_m, person.size_m, len(rows[k]), person.is_person)
        entry = {
            'name': CLASSES[0],
            'bbox_3d': boxes[k].tolist(),
            'track_id': -1 if person.track_id is None else person.track_id,
            'occlusion': -1 if person.occlusion is None else person.occlusion,
            'num_lidar_pts': len(rows[k]),
        }
        if reason is None:
            kept.append(k)
            info['instances'].append(entry)
        else:
            info['ignored'].append({**entry, 'reason': reason})
    if not frame.in_database:
        return info, []
    entries = write_objects_of_frame(
        database, frame.token, points, boxes[kept], [rows[k] for k in kept], CLASSES * len(kept), [0] * len(kept)
    )
    return info, entries


def create_infos(
    root: str | Path, yaw_sign: int | None = None, jobs: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Checks the tree, then writes the info file of every split, and the ground-truth database of `train`.

    Sequences of `test` have no public annotations: their frames are the clouds that are there, by name. Images may be
    missing, which is counted: a model of the LiDAR does not need them. Nothing is replaced before every frame was read.
    The result does not depend on `jobs`.

    Args:
        root: the tree.
        yaw_sign: 1 if a stored yaw turns from x to y, -1 if from y to x; None: found from the points of `train`.
        jobs: number of processes (default: see map_frames).
        progress: whether a bar is shown.

    Returns:
        {'splits': split -> {'path', 'frames', 'classes': {name: count}, 'notes'}, 'database': {name: count},
        'yaw_sign': sign, 'yaw_note': how it was found}; notes say how many people are ignored, and what is missing.

    Raises:
        InputError: annotations or clouds are missing, which are counted and named, or one cannot be used.
    """
    root = require_folder(Path(root).resolve(), 'give --root the folder that holds anno, pcd, split.json')
    splits = read_split(root / 'split.json')
    camera = read_camera(root / 'camera.json') if (root / 'camera.json').is_file() else None
    frames = _frames(root, splits)
    if yaw_sign is None:
        yaw_sign, yaw_note = find_yaw_sign(_frames_that_tell(root, frames))
    else:
        yaw_note = f'yaw sign {yaw_sign:+d}, as given'
    with new_database(root) as database:
        build = partial(build_frame, root=root, camera=camera, yaw_sign=yaw_sign, database=database)
        listed = [frame for of_split in frames.values() for frame in of_split]
        built = dict(zip((frame.token for frame in listed), map_frames(build, listed, jobs, progress)))
    counts = write_database_info(root, (entry for _, entries in built.values() for entry in entries))
    summary = {
        split: _write_split(root, split, [built[frame.token][0] for frame in of_split], yaw_sign)
        for split, of_split in frames.items()
    }
    if camera is None:
        for entry in summary.values():
            entry['notes'].append('there is no camera.json: frames have no camera')
    return {'splits': summary, 'database': counts, 'yaw_sign': yaw_sign, 'yaw_note': yaw_note}


def _frames_that_tell(
    root: Path, frames: dict[str, list[FrameToBuild]]
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Yields points and boxes of `train`, or of all labelled frames, every tenth one first: neighbours look alike."""
    splits = [frames['train']] if frames.get('train') else frames.values()
    labelled = [frame for of_split in splits for frame in of_split if frame.people]
    for frame in (frame for start in range(10) for frame in labelled[start::10]):
        yield read_cloud(root / frame.cloud, NUM_FEATURES), bottom_boxes(frame.people or ())


def _frames(root: Path, splits: dict[str, list[str]]) -> dict[str, list[FrameToBuild]]:
    """Returns split -> its frames, after a check that the annotations and all clouds are there."""
    absent = [
        f'{name}.json'
        for split, names in splits.items()
        for name in names
        if split != _SPLIT_WITHOUT_LABELS and not (root / 'anno' / f'{name}.json').is_file()
    ]
    if absent:
        raise InputError(
            f'{len(absent)} annotation files that split.json asks for are missing in {root}/anno '
            f'({_some(absent)}): unpack the archive completely, or take the sequences out of split.json'
        )
    found: dict[str, list[FrameToBuild]] = {}
    missing: list[str] = []
    for split, names in splits.items():
        for name in names:
            path = root / 'anno' / f'{name}.json'
            of_sequence = _labelled(root, path, missing) if path.is_file() else _unlabelled(root, name)
            found.setdefault(split, []).extend(replace(frame, in_database=split == 'train') for frame in of_sequence)
    if missing:
        raise InputError(
            f'{len(missing)} clouds that the annotations ask for are missing in {root} ({_some(missing)}): unpack the '
            'archives completely, or take the sequences out of split.json'
        )
    return {split: of_split for split, of_split in found.items() if of_split}


def _labelled(root: Path, path: Path, missing: list[str]) -> list[FrameToBuild]:
    sequence = read_sequence(path)
    frames = []
    for frame, time_s, velocities in zip(sequence.frames, frame_times(sequence.frames), velocities_of(sequence)):
        cloud, image = find_stored(root, frame.cloud_path), frame.image('left')
        if cloud is None:
            missing.append('/'.join(Path(frame.cloud_path).parts[-3:]) or f'frame {frame.frame_id} of {path.name}')
            continue
        picture = find_stored(root, image.path) if image else None
        frames.append(
            FrameToBuild(
                frame_token(sequence.name, frame.frame_id),
                sequence.name,
                str(cloud.relative_to(root)),
                str(picture.relative_to(root)) if picture else '',
                time_s,
                frame.people,
                velocities,
                False,
            )
        )
    return frames


def _unlabelled(root: Path, name: str) -> list[FrameToBuild]:
    """Returns the frames of a sequence without annotations; which image belongs to a cloud is not known then."""
    folder = root / 'pcd' / name
    clouds = sorted(folder.glob('*.bin')) if folder.is_dir() else []
    listed = tuple(Frame(k, path.name) for k, path in enumerate(clouds))
    return [
        FrameToBuild(frame_token(name, k), name, str(path.relative_to(root)), '', time_s, None, np.zeros((0, 2)), False)
        for (k, path), time_s in zip(enumerate(clouds), frame_times(listed))
    ]


def _some(names: list[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')


def _write_split(root: Path, split: str, infos: list[dict[str, Any]], yaw_sign: int) -> dict[str, Any]:
    """Numbers frames and labels and writes the info file of a split; returns what create_infos reports of it."""
    infos = [{'sample_idx': index, **info} for index, info in enumerate(infos)]
    for instance in (box for info in infos for box in (*info['instances'], *info['ignored'])):
        instance['bbox_label'] = instance['bbox_label_3d'] = 0 if 'reason' not in instance else -1
    metainfo = {
        'categories': {name: label for label, name in enumerate(CLASSES)},
        'dataset': FORMAT.name,
        'split': split,
        'info_version': '1.1',
        'yaw_sign': yaw_sign,
    }
    path = root / INFO_FILE.format(split)
    write_pickle(path, {'metainfo': metainfo, 'data_list': infos})
    kept = sum(len(info['instances']) for info in infos)
    notes = count_notes(infos)
    without_image = sum(not info['images'] for info in infos)
    if without_image:
        notes.append(f'{without_image} of {len(infos)} frames have no left image')
    notes += crowd_note(infos, 'all of STCrowd: 2.4/8/15.8, 0.57 x 0.60 m')
    return {'path': path, 'frames': len(infos), 'classes': {CLASSES[0]: kept}, 'notes': notes}
