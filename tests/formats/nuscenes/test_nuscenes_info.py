"""Info files: against the devkit's own boxes, against a brute-force choice of history, and on trees that are broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nuscenes_tree import HandmadeTree
from pyquaternion import Quaternion

from perception3d.checks import InputError
from perception3d.files import read_pickle, write_pickle
from perception3d.formats.nuscenes.files import open_tables
from perception3d.formats.nuscenes.info import build as nuscenes_info
from perception3d.formats.nuscenes.info.build import InfoSettings, create_infos
from perception3d.geometry.camera import transform
from tools import create_data

OFFSETS = (-0.2, -0.5, -1.3)


@pytest.fixture(scope='module')
def infos(nuscenes_tree: Path) -> list[dict]:
    return read_pickle(nuscenes_tree / 'perception3d_infos_hand_train.pkl')['data_list']


@pytest.fixture
def copy(nuscenes_tree: Path, tmp_path: Path) -> Path:
    """A tree that the test may break; its info files are those of the original."""
    return Path(shutil.copytree(nuscenes_tree, tmp_path / 'tree'))


def devkit_matrix(record: dict) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Quaternion(record['rotation']).rotation_matrix
    matrix[:3, 3] = record['translation']
    return matrix


def test_boxes_are_the_devkits_in_the_lidar_frame(nuscenes_tree: Path, infos: list[dict]):
    nusc = open_tables(nuscenes_tree)
    for info in infos:
        token = nusc.get('sample', info['token'])['data']['LIDAR_TOP']
        _, boxes, _ = nusc.get_sample_data(token)
        by_token = {box.token: box for box in boxes}
        found = {box['annotation_token']: box for box in info['instances']}
        assert set(found) == {t for t, b in by_token.items() if b.name.split('.')[0] in ('vehicle', 'human')}
        for token, entry in found.items():
            box = by_token[token]
            width, length, height = box.wlh
            axis = box.orientation.rotation_matrix[:, 0]
            np.testing.assert_allclose(entry['bbox_3d'][:3], box.center, atol=1e-9)
            np.testing.assert_allclose(entry['bbox_3d'][3:6], [length, width, height])
            np.testing.assert_allclose(entry['bbox_3d'][6], np.arctan2(axis[1], axis[0]), atol=1e-9)


def test_velocities_turn_into_the_lidar_frame_and_unknown_ones_stay_nan(nuscenes_tree: Path, infos: list[dict]):
    nusc = open_tables(nuscenes_tree)
    boxes = {box['annotation_token']: (box, info) for info in infos for box in info['instances']}
    for name in ('once 1', 'gap 0', 'gap 4'):
        assert np.isnan(boxes[f'annotation scene-a {name}'][0]['velocity']).all()
    entry, info = boxes['annotation scene-a mover 2']
    lidar = nusc.get('sample_data', nusc.get('sample', info['token'])['data']['LIDAR_TOP'])
    pose = nusc.get('ego_pose', lidar['ego_pose_token'])
    sensor = nusc.get('calibrated_sensor', lidar['calibrated_sensor_token'])
    turn = (Quaternion(pose['rotation']) * Quaternion(sensor['rotation'])).inverse
    np.testing.assert_allclose(entry['velocity'], turn.rotate([4.0, 2.0, 0.0])[:2], atol=1e-6)


def test_stock_mmdet3d_reads_the_infos(nuscenes_tree: Path, infos: list[dict]):
    from mmdet3d.datasets import NuScenesDataset

    stock = NuScenesDataset(
        str(nuscenes_tree),
        'perception3d_infos_hand_train.pkl',
        data_prefix=dict(pts='', sweeps='', img=''),
        modality=dict(use_camera=True, use_lidar=True),
    )
    assert len(stock) == len(infos)
    sample = stock.get_data_info(2)
    assert Path(sample['lidar_path']).is_file()
    assert all(Path(image['img_path']).is_file() for image in sample['images'].values())
    visible = [box for box in infos[2]['instances'] if box['num_lidar_pts'] > 0]
    boxes = sample['ann_info']['gt_bboxes_3d']
    np.testing.assert_allclose(boxes.gravity_center.numpy(), [box['bbox_3d'][:3] for box in visible], rtol=1e-5)
    np.testing.assert_allclose(boxes.tensor[:, 7:].numpy(), [box['velocity'] for box in visible], atol=1e-5)


def test_current_cameras_see_points_where_the_devkit_does(nuscenes_tree: Path, infos: list[dict]):
    nusc = open_tables(nuscenes_tree)
    for info in infos[1:3]:
        sample = nusc.get('sample', info['token'])
        in_lidar = {box.token: box.center for box in nusc.get_sample_data(sample['data']['LIDAR_TOP'])[1]}
        for channel, image in info['images'].items():
            seen = {box.token: box.center for box in nusc.get_sample_data(sample['data'][channel], box_vis_level=0)[1]}
            for token, centre in seen.items():
                moved = transform(in_lidar[token][None], np.array(image['lidar2cam']))[0]
                np.testing.assert_allclose(moved, centre, atol=1e-9)


@pytest.fixture(scope='module')
def odd_history(nuscenes_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """Infos whose offsets fall between keyframes, so that sweeps are chosen."""
    root = Path(shutil.copytree(nuscenes_tree, tmp_path_factory.mktemp('odd') / 'tree'))
    create_infos(root, settings=InfoSettings(offsets_s=OFFSETS, sweeps=3), progress=False)
    return root, read_pickle(root / 'perception3d_infos_hand_train.pkl')['data_list']


def test_history_is_the_nearest_past_frame_of_the_same_camera(odd_history: tuple[Path, list[dict]]):
    root, infos = odd_history
    rows = json.loads((root / 'v1.0-hand' / 'sample_data.json').read_text())
    chosen = set()
    for info in infos:
        assert [entry['offset_s'] for entry in info['history']] == list(OFFSETS)
        for entry in info['history']:
            assert list(entry['images']) == list(info['images'])
            for channel, image in entry['images'].items():
                current_us = round(info['images'][channel]['timestamp'] * 1e6)
                own = [r for r in rows if f'/{channel}/{info["scene_name"]}__' in r['filename']]
                past = [r for r in own if r['timestamp'] <= current_us]
                best = min(past, key=lambda r: abs(r['timestamp'] - current_us - entry['offset_s'] * 1e6))
                assert image['sample_data_token'] == best['token']
                assert image['img_path'] == best['filename']
                chosen.add(best['is_key_frame'])
    assert chosen == {True, False}


def test_history_at_the_start_of_a_scene_repeats_the_oldest_frame(infos: list[dict]):
    first, second = infos[0], infos[1]
    for entry in first['history']:
        for channel, image in entry['images'].items():
            assert image['img_path'] == first['images'][channel]['img_path']
            np.testing.assert_allclose(image['lidar2cam'], first['images'][channel]['lidar2cam'])
    paths = [[image['img_path'] for image in entry['images'].values()] for entry in second['history']]
    assert paths[1] == paths[2] == paths[0] == [image['img_path'] for image in first['images'].values()]


def test_history_matrices_go_through_both_ego_poses(odd_history: tuple[Path, list[dict]]):
    root, infos = odd_history
    nusc = open_tables(root)
    info = infos[4]
    lidar = nusc.get('sample_data', nusc.get('sample', info['token'])['data']['LIDAR_TOP'])

    def chain_of(record: dict) -> np.ndarray:
        pose = devkit_matrix(nusc.get('ego_pose', record['ego_pose_token']))
        return pose @ devkit_matrix(nusc.get('calibrated_sensor', record['calibrated_sensor_token']))

    moved = 0.0
    for entry in info['history']:
        for channel, image in entry['images'].items():
            past = nusc.get('sample_data', image['sample_data_token'])
            expected = np.linalg.inv(chain_of(past)) @ chain_of(lidar)
            np.testing.assert_allclose(image['lidar2cam'], expected, atol=1e-8)
            calibration = nusc.get('calibrated_sensor', past['calibrated_sensor_token'])
            np.testing.assert_allclose(image['cam2img'], calibration['camera_intrinsic'])
            moved = max(moved, np.abs(np.array(image['lidar2cam']) - info['images'][channel]['lidar2cam']).max())
    assert moved > 1, 'the ego vehicle moves, so history cameras are elsewhere'


def test_sweeps_bring_points_of_the_world_together(odd_history: tuple[Path, list[dict]]):
    info = odd_history[1][3]
    assert len(info['lidar_sweeps']) == 3
    assert odd_history[1][0]['lidar_sweeps'] == []
    points = np.random.default_rng(0).normal(size=(5, 3)) * 20
    global_from_lidar = np.array(info['ego2global']) @ np.array(info['lidar_points']['lidar2ego'])
    times = [sweep['timestamp'] for sweep in info['lidar_sweeps']]
    assert times == sorted(times, reverse=True)
    assert times[0] < info['timestamp']
    for sweep in info['lidar_sweeps']:
        in_sweep = transform(points, np.array(sweep['lidar_points']['lidar2sensor']))
        global_from_sweep = np.array(sweep['ego2global']) @ np.array(sweep['lidar_points']['lidar2ego'])
        np.testing.assert_allclose(transform(in_sweep, global_from_sweep), transform(points, global_from_lidar))


def test_future_frames_are_refused():
    with pytest.raises(InputError, match='future'):
        InfoSettings(offsets_s=(-0.5, 0.5))


def test_an_interrupted_run_continues_where_it_stopped(copy: Path, monkeypatch: pytest.MonkeyPatch):
    whole = (copy / 'perception3d_infos_hand_val.pkl').read_bytes()
    for path in copy.glob('perception3d_infos_*.pkl'):
        path.unlink()
    original, built = nuscenes_info.SceneInfos.build, []

    def build_until_interrupted(self: nuscenes_info.SceneInfos) -> list[dict]:
        if self.scene['name'] == 'scene-b' and 'interrupted' not in built:
            built.append('interrupted')
            raise KeyboardInterrupt
        built.append(self.scene['name'])
        return original(self)

    monkeypatch.setattr(nuscenes_info.SceneInfos, 'build', build_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        create_infos(copy, progress=False)
    assert not list(copy.glob('perception3d_infos_*.pkl'))
    create_infos(copy, progress=False)
    assert built == ['scene-a', 'interrupted', 'scene-b']
    assert (copy / 'perception3d_infos_hand_val.pkl').read_bytes() == whole
    assert not list(copy.glob('.perception3d*')), 'half-done work is removed'


def test_half_done_work_of_other_settings_is_not_used(copy: Path, monkeypatch: pytest.MonkeyPatch):
    original = nuscenes_info.SceneInfos.build

    def fail_on_second(self: nuscenes_info.SceneInfos) -> list[dict]:
        if self.scene['name'] == 'scene-b':
            raise KeyboardInterrupt
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(nuscenes_info.SceneInfos, 'build', fail_on_second)
        with pytest.raises(KeyboardInterrupt):
            create_infos(copy, progress=False)
    create_infos(copy, settings=InfoSettings(offsets_s=(-1.0,)), progress=False)
    for info in read_pickle(copy / 'perception3d_infos_hand_train.pkl')['data_list']:
        assert [entry['offset_s'] for entry in info['history']] == [-1.0]


def break_root(root: Path) -> None:
    shutil.rmtree(root)


def break_version(root: Path) -> None:
    shutil.rmtree(root / 'v1.0-hand')


def break_table(root: Path) -> None:
    (root / 'v1.0-hand' / 'ego_pose.json').unlink()


def break_json(root: Path) -> None:
    table = root / 'v1.0-hand' / 'sample.json'
    table.write_text(table.read_text()[:-20])


def break_map(root: Path) -> None:
    (root / 'maps' / 'map.png').unlink()


def break_image(root: Path) -> None:
    for path in sorted((root / 'samples' / 'CAM_BACK_LEFT').iterdir())[:2]:
        path.unlink()


def break_lidar_folder(root: Path) -> None:
    shutil.rmtree(root / 'samples' / 'LIDAR_TOP')


def break_splits(root: Path) -> None:
    (root / 'v1.0-hand' / 'splits.json').unlink()


def break_scene_names(root: Path) -> None:
    (root / 'v1.0-hand' / 'splits.json').write_text('{"x_train": ["nowhere"]}')


def break_split_type(root: Path) -> None:
    (root / 'v1.0-hand' / 'splits.json').write_text('{"x_train": "scene-a"}')


def break_split_name(root: Path) -> None:
    (root / 'v1.0-hand' / 'splits.json').write_text('{"/../../x_train": ["scene-a"]}')


def break_scene_twice(root: Path) -> None:
    name_scenes(root, 'scene-a')


def name_scenes(root: Path, name: str) -> None:
    """Gives the first two scenes a name."""
    table = root / 'v1.0-hand' / 'scene.json'
    rows = json.loads(table.read_text())
    for row in rows[:2]:
        row['name'] = name
        name = 'scene-b' if name != 'scene-a' else name
    table.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (break_root, 'tree does not exist'),
        (break_version, 'holds no nuScenes tables'),
        (break_table, r'lacks 1 of 13 tables \(ego_pose.json\)'),
        (break_json, 'sample.json is not valid JSON'),
        (break_map, 'map.png .* does not exist'),
        (break_image, r'2 of \d+ files are missing in .*: samples/CAM_BACK_LEFT/scene-a.*jpg'),
        (break_lidar_folder, r'10 of \d+ files are missing'),
        (break_splits, 'splits.json'),
        (break_scene_names, "split 'x_train': unknown scene 'nowhere'"),
        (break_split_type, 'must be a dict from split name to a list'),
        (break_split_name, "split '/../../x_train' cannot name a file: it would lead out of its folder"),
        (break_scene_twice, "scene.json: two scenes are called 'scene-a'"),
    ],
)
def test_a_broken_tree_gets_one_line_and_leaves_earlier_infos(copy: Path, damage: Callable[[Path], None], words: str):
    before = {path: path.read_bytes() for path in copy.glob('*.pkl')}
    damage(copy)
    with pytest.raises(InputError, match=words) as error:
        create_data.main(['nuscenes', '--root', str(copy)])
    assert '\n' not in str(error.value)
    if copy.is_dir():
        assert {path: path.read_bytes() for path in copy.glob('*.pkl')} == before


def test_a_scene_may_be_called_anything(copy: Path):
    inside = {path for path in copy.parent.rglob('*') if copy not in path.parents}
    name_scenes(copy, '../../outside')
    (copy / 'v1.0-hand' / 'splits.json').write_text('{"x_train": ["../../outside"], "x_val": ["scene-b"]}')
    summary = create_infos(copy, progress=False)
    infos = {split: read_pickle(entry['path'])['data_list'] for split, entry in summary.items()}
    assert {split: {info['scene_name'] for info in data} for split, data in infos.items()} == {
        'x_train': {'../../outside'}, 'x_val': {'scene-b'},
    }  # fmt: skip
    assert {path for path in copy.parent.rglob('*') if copy not in path.parents} == inside


def test_images_alone_are_enough_when_only_cameras_are_asked_for(copy: Path):
    break_lidar_folder(copy)
    create_infos(copy, settings=InfoSettings(sensors=('camera',)), progress=False)
    info = read_pickle(copy / 'perception3d_infos_hand_val.pkl')['data_list'][-1]
    assert info['lidar_sweeps'] == []
    assert info['instances']


def test_versions_are_found_or_asked_for(tmp_path: Path):
    root = HandmadeTree(
        tmp_path / 'tree', version='v1.0-mini', scenes=('scene-0061', 'scene-0103'), keyframes=2
    ).write()
    assert {split: entry['scenes'] for split, entry in create_infos(root, progress=False).items()} == {
        'mini_train': 1,
        'mini_val': 1,
    }
    HandmadeTree(root, version='v1.0-test', scenes=('scene-0077',), keyframes=2, annotated=False).write()
    with pytest.raises(InputError, match='several versions .*v1.0-mini, v1.0-test.*--version'):
        create_infos(root, progress=False)
    with pytest.raises(InputError, match="did you mean 'v1.0-test'"):
        create_infos(root, 'v1.0-tets', progress=False)
    summary = create_infos(root, 'v1.0-test', progress=False)
    assert list(summary) == ['test']
    assert sum(summary['test']['classes'].values()) == 0
    assert read_pickle(summary['test']['path'])['metainfo']['version'] == 'v1.0-test'


def test_the_command_prints_what_it_wrote(copy: Path, capsys: pytest.CaptureFixture):
    assert create_data.main(['nuscenes', '--root', str(copy), '--offsets', '-0.5']) == 0
    printed = capsys.readouterr().out
    assert f'hand_train: 5 samples of 1 scenes -> {copy.resolve() / "perception3d_infos_hand_train.pkl"}' in printed
    assert [line.split()[1:] for line in printed.splitlines() if line.startswith('car')] == [['10', '10']]


def test_annotations_whose_neighbours_are_not_in_the_tables(copy: Path):
    table = copy / 'v1.0-hand' / 'sample_annotation.json'
    rows = [row for row in json.loads(table.read_text()) if row['token'] != 'annotation scene-a mover 2']
    table.write_text(json.dumps(rows))
    create_infos(copy, progress=False)
    infos = read_pickle(copy / 'perception3d_infos_hand_train.pkl')['data_list']
    speeds = {b['annotation_token']: np.linalg.norm(b['velocity']) for info in infos for b in info['instances']}
    assert 'annotation scene-a mover 2' not in speeds
    for k in (0, 1, 3, 4):
        assert speeds[f'annotation scene-a mover {k}'] == pytest.approx(np.hypot(4, 2), abs=0.01)


def test_an_info_file_is_plain_data(infos: list[dict], tmp_path: Path):
    write_pickle(tmp_path / 'x.pkl', infos)
    assert b'numpy' not in (tmp_path / 'x.pkl').read_bytes()


def test_the_real_keyframe(nuscenes_sample: Path, tmp_path: Path):
    root = tmp_path / 'tree'
    root.mkdir()
    for part in nuscenes_sample.iterdir():
        (root / part.name).symlink_to(part)
    summary = create_infos(root, progress=False)
    info = read_pickle(summary['mini_train']['path'])['data_list'][0]
    assert list(info['images'])[:3] == ['CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_FRONT_LEFT']
    assert list(info['images'])[3:] == ['CAM_BACK', 'CAM_BACK_LEFT', 'CAM_BACK_RIGHT']
    assert np.isnan([box['velocity'] for box in info['instances']]).all()
    assert len(info['instances']) == 68
