"""What the tables of nuScenes must hold, and the devkit's reader of tables that are checked while they load.

Fields and their meaning: https://github.com/nutonomy/nuscenes-devkit/blob/master/docs/schema_nuscenes.md. Checked is
what info files, metrics or the devkit itself read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nuscenes import NuScenes

from perception3d.checks import InputError
from perception3d.files import read_json
from perception3d.table_columns import (
    TEXT,
    TOKEN,
    TOKENS,
    YES_OR_NO,
    Column,
    check_links,
    check_rows,
    index_tokens,
    numbers,
    whole,
)


def _can_turn(rotations: npt.NDArray[Any]) -> npt.NDArray[Any]:
    fine: npt.NDArray[Any] = np.abs(rotations).max(-1) > 1e-6
    return fine


def _are_pinholes(matrices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    fine: npt.NDArray[Any] = np.abs(matrices[:, 2] - [0, 0, 1]).max(-1) < 1e-6
    fine &= (matrices[:, 0, 0] > 0) & (matrices[:, 1, 1] > 0) & (np.abs(matrices[:, 1, 0]) < 1e-6)
    return fine


_TRANSLATION = numbers('three finite numbers in metres', (3,))
_ROTATION = numbers('a quaternion of four finite numbers w, x, y, z, not all of them 0', (4,), _can_turn)
_SIZE = numbers('width, length and height in metres, all above 0', (3,), lambda a: (a > 0).all(-1))
_INTRINSICS = numbers('the matrix [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx, fy above 0', (3, 3), _are_pinholes)
_TIME = whole('microseconds, a whole number of 0 or more', 0)
_COUNT = whole('a whole number of 0 or more', 0)
_PIXELS = whole('a number of pixels of 1 or more', 1)
_ONE_ATTRIBUTE = Column(
    'a list of one attribute token or none', lambda values: TOKENS.holds(values) and max(map(len, values)) <= 1
)

COLUMNS: dict[str, dict[str, Column]] = {
    'attribute': {'token': TOKEN, 'name': TEXT},
    'calibrated_sensor': {
        'token': TOKEN, 'sensor_token': TOKEN, 'translation': _TRANSLATION, 'rotation': _ROTATION,
    },
    'category': {'token': TOKEN, 'name': TEXT},
    'ego_pose': {'token': TOKEN, 'translation': _TRANSLATION, 'rotation': _ROTATION},
    'instance': {'token': TOKEN, 'category_token': TOKEN},
    'log': {'token': TOKEN},
    'map': {'token': TOKEN, 'log_tokens': TOKENS, 'filename': TOKEN},
    'sample': {'token': TOKEN, 'timestamp': _TIME, 'prev': TEXT, 'next': TEXT, 'scene_token': TOKEN},
    'sample_annotation': {
        'token': TOKEN, 'sample_token': TOKEN, 'instance_token': TOKEN, 'attribute_tokens': _ONE_ATTRIBUTE,
        'translation': _TRANSLATION, 'size': _SIZE, 'rotation': _ROTATION, 'prev': TEXT, 'next': TEXT,
        'num_lidar_pts': _COUNT, 'num_radar_pts': _COUNT,
    },
    'sample_data': {
        'token': TOKEN, 'sample_token': TOKEN, 'ego_pose_token': TOKEN, 'calibrated_sensor_token': TOKEN,
        'timestamp': _TIME, 'is_key_frame': YES_OR_NO, 'filename': TOKEN,
    },
    'scene': {'token': TOKEN, 'name': TEXT, 'first_sample_token': TOKEN},
    'sensor': {'token': TOKEN, 'channel': TOKEN, 'modality': TEXT},
    'visibility': {'token': TOKEN},
}  # fmt: skip
_LINKS = (
    ('calibrated_sensor', 'sensor_token', 'sensor'),
    ('instance', 'category_token', 'category'),
    ('sample', 'scene_token', 'scene'),
    ('scene', 'first_sample_token', 'sample'),
    ('sample_annotation', 'sample_token', 'sample'),
    ('sample_annotation', 'instance_token', 'instance'),
    ('sample_annotation', 'attribute_tokens', 'attribute'),
    ('sample_data', 'sample_token', 'sample'),
    ('sample_data', 'ego_pose_token', 'ego_pose'),
    ('sample_data', 'calibrated_sensor_token', 'calibrated_sensor'),
)


def read_table(folder: str | Path, name: str) -> list[dict[str, Any]]:
    """Returns the rows of a table in the folder of a version; InputError names the row and field that are wrong."""
    path = Path(folder) / f'{name}.json'
    rows: list[dict[str, Any]] = read_json(path)
    check_rows(str(path), rows, COLUMNS.get(name, {}))
    return rows


class CheckedNuScenes(NuScenes):
    """The devkit's NuScenes whose tables are checked: fields while they load, links before they are followed.

    Raises:
        InputError: names the table, the row, the field, and what was expected.
    """

    def __load_table__(self, table_name: str) -> list[dict[str, Any]]:
        return read_table(self.table_root, table_name)

    def __make_reverse_index__(self, verbose: bool) -> None:
        folder = Path(self.table_root)
        tables = {name: getattr(self, name) for name in COLUMNS}
        index = {name: index_tokens(str(folder / f'{name}.json'), rows) for name, rows in tables.items()}
        for name, key, target in _LINKS:
            check_links(str(folder / f'{name}.json'), tables[name], key, index[target], f'{target}.json')
        _check_sensors(folder, tables, index)
        mapped = {token for row in self.map for token in row['log_tokens']}
        check_links(str(folder / 'log.json'), self.log, 'token', dict.fromkeys(mapped), 'log_tokens of map.json')
        if not self.map:
            raise InputError(f'{folder / "map.json"} is empty: unpack the metadata again')
        _check_order(folder, self.scene, index['sample'])
        super().__make_reverse_index__(verbose)


def _check_sensors(folder: Path, tables: dict[str, Any], index: dict[str, dict[str, Any]]) -> None:
    """Raises InputError where a camera has no intrinsics, or a frame of it no size."""
    cameras = {token for token, row in index['sensor'].items() if row['modality'] == 'camera'}
    calibrations = [row for row in tables['calibrated_sensor'] if row['sensor_token'] in cameras]
    check_rows(str(folder / 'calibrated_sensor.json'), calibrations, {'camera_intrinsic': _INTRINSICS})
    of_cameras = {row['token'] for row in calibrations}
    images = [row for row in tables['sample_data'] if row['calibrated_sensor_token'] in of_cameras]
    check_rows(str(folder / 'sample_data.json'), images, {'width': _PIXELS, 'height': _PIXELS})


def _check_order(folder: Path, scenes: list[dict[str, Any]], samples: dict[str, dict[str, Any]]) -> None:
    """Raises InputError unless `next` leads from the first sample of each scene through later ones of that scene."""
    table = folder / 'sample.json'
    for scene in scenes:
        token = scene['first_sample_token']
        while token:
            sample = samples[token]
            if sample['scene_token'] != scene['token']:
                raise InputError(
                    f'{table}: row {token!r} follows in scene {scene["name"]!r}, but its scene_token names another one'
                )
            token = sample['next']
            if not token:
                break
            if token not in samples:
                fault = f'next is {token!r}, which {table.name} does not have'
                raise InputError(f'{table}: row {sample["token"]!r}: {fault}')
            # Times that rise also end a cycle.
            if samples[token]['timestamp'] <= sample['timestamp']:
                raise InputError(
                    f'{table}: row {sample["token"]!r}: next is {token!r}, whose timestamp is not later: the samples '
                    'of a scene follow each other in time'
                )
