"""Files of tracks: a table (CSV), the text of the MOT challenge, and the JSON of the nuScenes tracking task."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.files import write_bytes, write_json
from perception3d.geometry.camera import quaternion_wxyz, transform, yawed_quaternions
from perception3d.outputs import OutputNames
from perception3d.structures.tracks import FrameTracks, Tracks

SUFFIXES = ('.csv', '.txt')
"""Of the two files of a scene: the table, and the text of the MOT challenge."""

COLUMNS = (
    'frame', 'token', 'time_s', 'track_id', 'class', 'score', 'x_m', 'y_m', 'z_m', 'length_m', 'width_m', 'height_m',
    'yaw_rad', 'vx_mps', 'vy_mps',
)  # fmt: skip

NUSCENES_NAMES = ('bicycle', 'bus', 'car', 'motorcycle', 'pedestrian', 'trailer', 'truck')
"""The classes of the nuScenes tracking task."""

# Names that other data sets use for them.
_SAME_AS = {'person': 'pedestrian', 'cyclist': 'bicycle', 'van': 'truck'}

PREFIX = 'tracks_'
"""With it begin the names of all files of tracks, so that they are told from result files in one folder."""


def write_tracks(
    frames: Iterable[FrameTracks], names: OutputNames, json_name: str = 'tracks', keep: Iterable[str | Path] = ()
) -> list[Path]:
    """Writes the files of tracked frames into the folder of `names`; returns their paths.

    Of each scene `tracks_<scene>.csv` and `tracks_<scene>.txt`, and of all together `<json_name>.json`. The same scene
    gets the same names again.

    Args:
        frames: those of a scene in the order of time.
        names: of the folder.
        json_name: the name of the nuScenes JSON.
        keep: files that are not overwritten, such as inputs.
    """
    frames, kept, written = list(frames), list(keep), []
    for scene in dict.fromkeys(frame.scene for frame in frames):
        ordered = [frame for frame in frames if frame.scene == scene]
        table, mot = names.paths(f'{PREFIX}{Path(scene).name}', SUFFIXES, ('tracks', scene), kept)
        write_bytes(table, csv_text(ordered).encode())
        write_bytes(mot, mot_text(ordered).encode())
        written += [table, mot]
    (listing,) = names.paths(json_name, ['.json'], ('tracks', json_name), kept)
    write_json(listing, nuscenes_tracks(frames))
    return [*written, listing]


def csv_text(frames: Sequence[FrameTracks]) -> str:
    """Returns a table with a header (`COLUMNS`), a row for each track of each frame of a scene.

    `frame` counts from 0. x, y, z are those of the centre of the box in the LiDAR frame of its own frame. Velocities
    and times are empty where they are not known.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator='\n')
    rows.writerow(COLUMNS)
    for number, frame in enumerate(frames):
        time_s = '' if frame.time_s is None else f'{frame.time_s:.6f}'
        for entry in _entries(frame.tracks):
            values = [*entry.center, *entry.box[3:7], *entry.box[7:9]]
            shown = ['' if not np.isfinite(value) else f'{value:.4f}' for value in values]
            score = '' if entry.score is None else f'{entry.score:.4f}'
            rows.writerow([number, frame.token, time_s, entry.number, entry.name, score, *shown])
    return text.getvalue()


def mot_text(frames: Sequence[FrameTracks]) -> str:
    """Returns the result text of the MOT challenge (3D MOT 2015) of a scene.

    A line is `frame,id,left,top,width,height,confidence,x,y,z`: frames count from 1, the 2D box is unknown (-1), and
    (x, y, z) is the middle of the feet in metres: in the global frame where every pose of the scene is known, else in
    the LiDAR frame of its own frame. Without a score the confidence is 1.
    """
    known = all(frame.global_from_lidar is not None for frame in frames)
    lines = []
    for number, frame in enumerate(frames, start=1):
        for entry in _entries(frame.tracks):
            feet = entry.box[None, :3]
            if known and frame.global_from_lidar is not None:
                feet = transform(feet, frame.global_from_lidar)
            x, y, z = feet[0]
            score = 1.0 if entry.score is None else entry.score
            lines.append(f'{number},{entry.number},-1,-1,-1,-1,{score:.4f},{x:.4f},{y:.4f},{z:.4f}\n')
    return ''.join(lines)


def nuscenes_tracks(frames: Sequence[FrameTracks]) -> dict[str, Any]:
    """Returns the submission of the nuScenes tracking task, by the frame's token.

    Boxes are in the global frame where the pose of a frame is known, else in its LiDAR frame, and `meta` says how many
    frames that are. Classes that the task does not have are left out; `person` is a pedestrian. Unknown velocities
    are 0.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    for frame in frames:
        pose = np.eye(4) if frame.global_from_lidar is None else frame.global_from_lidar
        boxes = results.setdefault(frame.token, [])
        for entry in _entries(frame.tracks):
            name = _SAME_AS.get(entry.name.lower(), entry.name.lower())
            if name in NUSCENES_NAMES:
                boxes.append(_nuscenes_box(frame.token, name, entry, pose))
    sensors = {f'use_{name}': name == 'lidar' for name in ('camera', 'lidar', 'radar', 'map', 'external')}
    without_pose = sum(frame.global_from_lidar is None for frame in frames)
    return {'meta': {**sensors, 'frames_without_pose': without_pose}, 'results': results}


@dataclass(frozen=True)
class _Entry:
    """One track of a frame: its box (9,), the centre of it (3,), identity, class and score."""

    box: npt.NDArray[Any]
    center: npt.NDArray[Any]
    number: int
    name: str
    score: float | None


def _entries(tracks: Tracks) -> Iterable[_Entry]:
    boxes, classes = tracks.boxes, tracks.classes
    for row, label, number, index in zip(boxes.boxes, boxes.labels, tracks.ids, range(len(tracks))):
        box = np.full(9, np.nan)
        box[: len(row)] = row
        name = classes[label] if 0 <= label < len(classes) else 'other'
        score = None if boxes.scores is None else float(boxes.scores[index])
        yield _Entry(box, box[:3] + [0, 0, box[5] / 2], int(number), name, score)


def _nuscenes_box(token: str, name: str, entry: _Entry, pose: npt.NDArray[Any]) -> dict[str, Any]:
    length, width, height = entry.box[3:6].tolist()
    velocity = pose[:3, :2] @ np.nan_to_num(entry.box[7:9])
    return {
        'sample_token': token,
        'translation': transform(entry.center[None], pose)[0].tolist(),
        'size': [width, length, height],
        'rotation': yawed_quaternions(quaternion_wxyz(pose[:3, :3]), entry.box[6:7])[0].tolist(),
        'velocity': velocity[:2].tolist(),
        'tracking_id': str(entry.number),
        'tracking_name': name,
        'tracking_score': 1.0 if entry.score is None else entry.score,
    }
