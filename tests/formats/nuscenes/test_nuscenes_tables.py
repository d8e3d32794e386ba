"""Tables of nuScenes with impossible content: one line that names table, row and field, before anything is built."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes_tree import HandmadeTree

from perception3d.checks import InputError
from perception3d.formats.nuscenes.files import open_tables, splits

Rows = list[dict[str, Any]]
SPLITS = {'hand_train': ['scene-a'], 'hand_val': ['scene-b']}


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return HandmadeTree(tmp_path_factory.mktemp('tables') / 'tree', keyframes=3).write(SPLITS)


@pytest.fixture
def tree(written: Path, tmp_path: Path) -> Path:
    """Tables of its own; the devkit reads no file of a sensor."""
    root = tmp_path / 'tree'
    (root / 'v1.0-hand').mkdir(parents=True)
    (root / 'maps').symlink_to(written / 'maps')
    for table in (written / 'v1.0-hand').iterdir():
        (root / 'v1.0-hand' / table.name).write_bytes(table.read_bytes())
    return root


def edit(root: Path, table: str, change: Callable[[Rows], Any]) -> None:
    path = root / 'v1.0-hand' / f'{table}.json'
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def put(key: str, value: Any, row: int = 1) -> Callable[[Rows], Any]:
    return lambda rows: rows[row].update({key: value})


def drop(key: str, row: int = 1) -> Callable[[Rows], Any]:
    return lambda rows: rows[row].pop(key)


def cameras_have(key: str, value: Any) -> Callable[[Rows], Any]:
    """Sets a field in the last row, which is of a camera."""
    return put(key, value, -1)


NAN, HUGE = float('nan'), 10**400
WRONG = [
    ('ego_pose', lambda rows: rows.pop(), "ego_pose_token is 'pose .*which ego_pose.json does not have"),
    ('ego_pose', drop('rotation'), 'row .* has no rotation: expected a quaternion'),
    ('ego_pose', put('rotation', [0, 0, 0, 0]), r'rotation is \[0, 0, 0, 0\], expected a quaternion'),
    ('ego_pose', put('rotation', [1, 0, 0]), 'expected a quaternion'),
    ('ego_pose', put('translation', [NAN, 0, 0]), r'translation is \[nan, 0, 0\], expected three finite numbers'),
    ('ego_pose', put('translation', [HUGE, 0, 0]), 'expected three finite numbers'),
    ('ego_pose', put('translation', ['1', '2', '3']), 'expected three finite numbers'),
    ('ego_pose', put('translation', None), 'translation is None, expected three finite numbers'),
    ('ego_pose', put('translation', [[1, 2, 3]]), 'expected three finite numbers'),
    ('calibrated_sensor', cameras_have('camera_intrinsic', []), r'camera_intrinsic is \[\], expected the matrix'),
    ('calibrated_sensor', cameras_have('camera_intrinsic', [[5, 0, 0], [0, 5, 0], [9, 9, 1]]), 'expected the matrix'),
    ('calibrated_sensor', cameras_have('camera_intrinsic', [[0, 0, 9], [0, 5, 9], [0, 0, 1]]), 'expected the matrix'),
    ('calibrated_sensor', put('sensor_token', 'none'), "sensor_token is 'none', which sensor.json does not have"),
    ('sample_annotation', put('size', [0, 1, 1]), r'size is \[0, 1, 1\], expected width, length and height'),
    ('sample_annotation', put('size', [-1, 1, 1]), 'expected width, length and height'),
    ('sample_annotation', drop('num_radar_pts'), 'has no num_radar_pts: expected a whole number'),
    ('sample_annotation', put('num_lidar_pts', 1.5), 'num_lidar_pts is 1.5, expected a whole number'),
    ('sample_annotation', put('num_lidar_pts', -1), 'num_lidar_pts is -1, expected a whole'),
    ('sample_annotation', put('attribute_tokens', ['a', 'b']), 'expected a list of one attribute token or none'),
    ('sample_annotation', put('attribute_tokens', ['a']), "attribute_tokens is 'a', which attribute.json"),
    ('sample_annotation', put('instance_token', 7), 'instance_token is 7, expected a token'),
    ('sample_data', cameras_have('width', 0), 'width is 0, expected a number of pixels'),
    ('sample_data', lambda rows: rows[-1].pop('height'), 'has no height: expected a number of pixels'),
    ('sample_data', put('timestamp', '12'), "timestamp is '12', expected microseconds"),
    ('sample_data', put('is_key_frame', 'yes'), "is_key_frame is 'yes', expected true or false"),
    ('sample', lambda rows: rows[1].update(next=rows[0]['token']), 'whose timestamp is not later'),
    ('sample', lambda rows: rows[0].update(next=rows[0]['token']), 'whose timestamp is not later'),
    ('sample', put('next', 'nowhere', 0), "next is 'nowhere', which sample.json does not have"),
    ('sample', lambda rows: rows[1].update(scene_token=rows[-1]['scene_token']), 'its scene_token names another one'),
    ('sample', lambda rows: rows.append(rows[0]), "two rows have the token 'sample scene-a 0'"),
    ('scene', put('first_sample_token', 'x', 0), "first_sample_token is 'x', which sample.json does not have"),
    ('map', lambda rows: rows.clear(), 'log.json: row .log.: token is .log., which log_tokens'),
    ('map', drop('log_tokens', 0), 'map.json: row .map. has no log_tokens'),
    ('category', drop('token', 0), 'category.json: row 1 has no token'),
    ('instance', lambda rows: rows.insert(0, None), 'instance.json must be a list of rows'),
]  # fmt: skip


@pytest.mark.parametrize(('table', 'change', 'words'), WRONG)
def test_a_wrong_row_is_named_with_its_field(tree: Path, table: str, change: Callable[[Rows], Any], words: str):
    edit(tree, table, change)
    with pytest.raises(InputError, match=words) as error:
        open_tables(tree)
    assert '\n' not in str(error.value)
    assert '.json' in str(error.value)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ({'t': ['scene-a', 'scene-c']}, "split 't': unknown scene 'scene-c': did you mean"),
        ({'t': ['scene-a', 'scene-b', 'scene-a']}, "split 't' names the scene 'scene-a' twice"),
        ({'t': ['scene-a', 7]}, "split 't' names the scene 7: names are texts"),
        ({'t': 'scene-a'}, 'must be a dict from split name to a list'),
        ([['scene-a']], 'must be a dict from split name to a list'),
    ],
)
def test_wrong_splits_are_named(tree: Path, content: Any, words: str):
    (tree / 'v1.0-hand' / 'splits.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        splits(open_tables(tree))


def test_what_the_format_leaves_open_is_taken(tree: Path, written: Path):
    """A byte-order mark, rotations of another length than 1, LiDAR frames without a size, values no one reads."""
    edit(tree, 'ego_pose', lambda rows: [row.update(rotation=(3 * np.array(row['rotation'])).tolist()) for row in rows])
    edit(tree, 'sample_data', lambda rows: rows[0].update(width=None, height=None))
    edit(tree, 'scene', lambda rows: [row.pop('description') for row in rows])
    path = tree / 'v1.0-hand' / 'sample.json'
    path.write_text('\ufeff' + path.read_text(), encoding='utf-8')
    changed, original = open_tables(tree), open_tables(written)
    assert splits(changed) == SPLITS
    for sample in original.sample:
        assert changed.get('sample', sample['token'])['anns'] == sample['anns']
        for token in sample['data'].values():
            boxes = [nusc.get_sample_data(token, use_flat_vehicle_coordinates=False)[1] for nusc in (changed, original)]
            for ours, wanted in zip(*boxes):
                np.testing.assert_allclose(ours.corners(), wanted.corners(), atol=1e-6)
