"""Frames for inference from files: infos of create_data, or a frame that a user describes in JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError
from perception3d.files import holds_frames, read_image, read_json, read_pickle

CAMERA_ORDER = ('CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_FRONT_LEFT', 'CAM_BACK', 'CAM_BACK_LEFT', 'CAM_BACK_RIGHT')
FRAME_SUFFIXES = ('.json', '.pkl')
_EXAMPLE = (
    '{"images": {"CAM_FRONT": {"img_path": "front.jpg", "cam2img": 3x3, "lidar2cam": 4x4}, ...}, '
    '"history": [{"offset_s": -0.5, "images": {...}}, ...]}'
)


def order_cameras(channels: Iterable[str]) -> list[str]:
    """Returns camera names in the order of the released infos of nuScenes, then any others by name."""
    rank = {name: i for i, name in enumerate(CAMERA_ORDER)}
    return sorted(channels, key=lambda name: (rank.get(name, len(rank)), name))


def read_infos(path: str | Path) -> list[dict[str, Any]]:
    """Returns the infos of an info file (.pkl), or the one of a frame described in JSON.

    The cameras of a JSON frame are put into the order of info files, whatever that of its keys.

    A JSON frame needs `images`: for each camera the path of its image, its intrinsics `cam2img` (3 x 3) and `lidar2cam`
    (4 x 4, to the camera from the frame in which the boxes are wanted: x right, y forward, z up). `history` (past
    frames, newest first), `lidar_points` ({"lidar_path": .., "lidar2ego": 4 x 4}), `ego2global`, `timestamp` (s) and
    `token` are optional; models whose grid follows the ground need `lidar2ego`.

    Raises:
        InputError: the file is missing or malformed; names the camera and the key.
    """
    path = Path(path)
    if path.suffix == '.pkl':
        content = read_pickle(path)
        if not isinstance(content, Mapping) or not holds_frames(content.get('data_list'), 'images'):
            raise InputError(f'{path} is not an info file: write it with tools/create_data.py')
        return content['data_list']
    if path.suffix != '.json':
        raise InputError(f'{path}: expected a frame (.json) or an info file (.pkl), not {path.suffix or "a folder"}')
    return [_complete(path, read_json(path))]


def _complete(path: Path, frame: Any) -> dict[str, Any]:
    """Returns the info of a JSON frame, in which what the user left out has its neutral value."""
    if not isinstance(frame, Mapping) or not isinstance(frame.get('images'), Mapping) or not frame['images']:
        raise InputError(f'{path} describes no frame: expected {_EXAMPLE}')
    identity = np.eye(4).tolist()
    time_s = float(frame.get('timestamp', 0.0))
    # Sums over cameras are rounded by their order, and a JSON file has none.
    images = {name: frame['images'][name] for name in order_cameras(frame['images'])}
    current = {name: _camera(path, name, view, time_s) for name, view in images.items()}
    history = []
    for entry in frame.get('history', ()):
        offset = float(entry.get('offset_s', 0.0))
        lacking = [name for name in current if name not in entry.get('images', {})]
        if lacking:
            raise InputError(f'{path}: the history at {offset} s lacks {", ".join(lacking)}')
        views = {name: _camera(path, name, entry['images'][name], time_s + offset) for name in current}
        history.append({'offset_s': offset, 'images': views})
    points = {'lidar_path': '', 'num_pts_feats': 5, **frame.get('lidar_points', {})}
    neutral = {'sample_idx': 0, 'token': path.stem, 'scene_token': '', 'scene_name': '', 'ego2global': identity}
    given = {key: frame[key] for key in neutral if key in frame}
    return {
        **neutral,
        **given,
        'timestamp': time_s,
        'images': current,
        'history': history,
        'lidar_points': points,
        'lidar_sweeps': [],
        'instances': [],
    }


def _camera(path: Path, name: str, view: Mapping[str, Any], time_s: float) -> dict[str, Any]:
    for key, shape in (('cam2img', (3, 3)), ('lidar2cam', (4, 4))):
        try:
            given: tuple[int, ...] | None = np.asarray(view[key], float).shape
        except (KeyError, ValueError, TypeError):
            given = None
        if given != shape:
            text = 'it is missing or holds something else' if given is None else f'got shape {given}'
            raise InputError(f'{path}: {name}.{key}: expected {shape[0]} x {shape[1]} numbers, {text}')
    if 'img_path' not in view:
        raise InputError(f'{path}: {name} has no img_path')
    size = {}
    if 'width' not in view or 'height' not in view:
        height, width = read_image(path.parent / view['img_path']).shape[:2]
        size = {'width': width, 'height': height}
    return {'timestamp': time_s, **size, **view}


def repeat_history(info: dict[str, Any], num_frames: int) -> dict[str, Any]:
    """Returns `info` with at least `num_frames - 1` past frames; the oldest repeats, as at the start of a stream."""
    history = list(info['history'])
    oldest = history[-1] if history else {'offset_s': 0.0, 'images': info['images']}
    history += [oldest] * (num_frames - 1 - len(history))
    return {**info, 'history': history}
