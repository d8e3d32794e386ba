"""The ground-truth database of nuScenes: against a slow account of ten sweeps, in processes, after interruptions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from painted_tree import PaintedTree

from perception3d.checks import InputError
from perception3d.datasets.ground_truth_database import FOLDER, INFO_FILE
from perception3d.files import read_pickle
from perception3d.formats.nuscenes.info import database as nuscenes_database
from perception3d.formats.nuscenes.info.build import InfoSettings, create_infos
from perception3d.formats.nuscenes.info.database import create_database, find_train_split
from tools import create_data


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> PaintedTree:
    """A painted tree with infos and the database of hand_train. Read only."""
    tree = PaintedTree(tmp_path_factory.mktemp('painted'))
    tree.write()
    create_infos(tree.root, progress=False)
    create_database(paths(tree.root), jobs=1, progress=False)
    return tree


@pytest.fixture
def copy(tree: PaintedTree, tmp_path: Path) -> Path:
    """The same tree without its database, which the test may break."""
    root = Path(shutil.copytree(tree.root, tmp_path / 'tree'))
    shutil.rmtree(root / FOLDER)
    (root / INFO_FILE).unlink()
    return root


def paths(root: Path) -> dict[str, Path]:
    return {split: root / f'perception3d_infos_{split}.pkl' for split in ('hand_train', 'hand_val')}


def content(root: Path) -> dict[str, bytes]:
    """All files of a database by name."""
    files = [*(root / FOLDER).iterdir(), root / INFO_FILE]
    return {path.name: path.read_bytes() for path in files}


def in_order(points: np.ndarray) -> np.ndarray:
    """Rows by intensity, which differs from point to point."""
    return points[np.argsort(points[:, 3])]


def test_objects_and_their_points_are_those_of_a_slow_account(tree: PaintedTree):
    table = read_pickle(tree.root / INFO_FILE)
    infos = read_pickle(paths(tree.root)['hand_train'])['data_list']
    entries = {(e['image_idx'], e['gt_idx']): e for objects in table.values() for e in objects}
    compared, ages, unknown = 0, set(), 0
    for info in infos:
        frame_id = f'{info["sample_idx"]:06d}'
        valid = [box for box in info['instances'] if box['num_lidar_pts'] > 0]
        expected = tree.objects(info['token'])
        assert len(expected) == len(valid)
        for k, (name, box, points) in enumerate(expected):
            entry = entries.pop((frame_id, k))
            assert entry['name'] == name
            assert entry['path'] == f'{FOLDER}/{frame_id}_{name}_{k}.bin'
            assert entry['num_points_in_gt'] == len(points) > 0
            stored = np.fromfile(tree.root / entry['path'], np.float32).reshape(-1, 5)
            bottom = box[:3] - [0, 0, box[5] / 2]
            np.testing.assert_allclose(entry['box3d_lidar'][:7], [*bottom, *box[3:]], atol=1e-5)
            np.testing.assert_allclose(entry['box3d_lidar'][7:], valid[k]['velocity'], rtol=1e-6)
            shifted = points - [*bottom, 0, 0]
            np.testing.assert_allclose(in_order(stored), in_order(shifted), atol=2e-5)
            ages |= set(np.round(points[:, 4], 3))
            unknown += int(np.isnan(entry['box3d_lidar'][7:]).all())
            compared += 1
    assert not entries, 'the database has no other objects'
    assert compared == sum(len(objects) for objects in table.values()) > 20
    assert ages == {round(0.05 * k, 3) for k in range(10)}, 'all ten sweeps have a part'
    assert unknown == 3, 'one seen once and one seen after a gap have no velocity'


def test_pedestrians_that_no_sensor_saw_are_not_objects(tree: PaintedTree):
    table = read_pickle(tree.root / INFO_FILE)
    # Once "once", twice "gap"; "hidden" stands there in all five frames.
    assert {name: len(objects) for name, objects in table.items()} == {'bicycle': 10, 'car': 10, 'pedestrian': 3}


def test_the_database_does_not_depend_on_the_number_of_processes(tree: PaintedTree, copy: Path):
    create_database(paths(copy), jobs=2, progress=False)
    assert content(copy) == content(tree.root)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, frame_id: str) -> list[str]:
    """Stops the work once at a frame; returns a list that fills with the frames that are loaded."""
    original, loaded = nuscenes_database.load_sweeps, []

    def load(frame: nuscenes_database.Frame) -> np.ndarray:
        if frame.frame_id == frame_id and 'interrupted' not in loaded:
            loaded.append('interrupted')
            raise KeyboardInterrupt
        loaded.append(frame.frame_id)
        return original(frame)

    monkeypatch.setattr(nuscenes_database, 'load_sweeps', load)
    return loaded


def test_an_interrupted_run_continues_where_it_stopped(tree: PaintedTree, copy: Path, monkeypatch: pytest.MonkeyPatch):
    loaded = interrupt_at(monkeypatch, '000003')
    with pytest.raises(KeyboardInterrupt):
        create_database(paths(copy), jobs=1, progress=False)
    assert not (copy / FOLDER).exists() and not (copy / INFO_FILE).exists()
    create_database(paths(copy), jobs=1, progress=False)
    assert loaded == ['000000', '000001', '000002', 'interrupted', '000003', '000004']
    assert content(copy) == content(tree.root)
    assert not list(copy.glob('.perception3d*')), 'half-done work is removed'


def test_half_done_work_of_other_infos_is_not_used(copy: Path, monkeypatch: pytest.MonkeyPatch):
    loaded = interrupt_at(monkeypatch, '000002')
    with pytest.raises(KeyboardInterrupt):
        create_database(paths(copy), jobs=1, progress=False)
    create_infos(copy, settings=InfoSettings(sweeps=3), progress=False)
    create_database(paths(copy), jobs=1, progress=False)
    assert loaded[3:] == [f'{k:06d}' for k in range(5)]
    ages = {
        round(float(age), 3)
        for path in (copy / FOLDER).iterdir()
        for age in np.fromfile(path, np.float32).reshape(-1, 5)[:, 4]
    }
    assert ages == {0.0, 0.05, 0.1, 0.15}


def test_a_bad_cloud_is_named_and_the_earlier_database_stays(tree: PaintedTree, tmp_path: Path):
    root = Path(shutil.copytree(tree.root, tmp_path / 'tree'))
    before = content(root)
    sweep = sorted((root / 'sweeps' / 'LIDAR_TOP').glob('scene-a*'))[3]
    sweep.write_bytes(sweep.read_bytes()[:-3])
    with pytest.raises(InputError, match=f'{sweep.name} is truncated'):
        create_database(paths(root), jobs=1, progress=False)
    assert content(root) == before


def test_which_split_is_the_one_to_train_on():
    assert find_train_split(['train', 'val']) == 'train'
    assert find_train_split(['mini_train', 'mini_val']) == 'mini_train'
    with pytest.raises(InputError, match='which of the splits a, b .*--database a'):
        find_train_split(['a', 'b'])
    with pytest.raises(InputError, match='--database x_train'):
        find_train_split(['x_train', 'y_train', 'val'])


def test_the_command_writes_the_database_of_any_split(copy: Path, capsys: pytest.CaptureFixture):
    command = ['nuscenes', '--root', str(copy), '--jobs', '1']
    assert create_data.main(command) == 0
    assert not (copy / FOLDER).exists()
    assert create_data.main([*command, '--database']) == 0
    printed = capsys.readouterr().out
    assert f'database of hand_train: 23 objects -> {copy.resolve() / FOLDER}' in printed
    assert [line.split()[1:] for line in printed.splitlines() if line.startswith('pedestrian')][-1] == ['8', '8', '3']
    assert create_data.main([*command, '--database', 'hand_val']) == 0
    assert 'database of hand_val: 23 objects' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--database', 'hand_trian'], "'hand_trian': did you mean 'hand_train'"),
        (['--database', '--sensors', 'camera'], 'add lidar to --sensors'),
        (['--database', '--jobs', '0'], 'cannot work with 0 jobs'),
    ],
)
def test_bad_options_get_one_line(copy: Path, options: list[str], words: str):
    with pytest.raises(InputError, match=words) as error:
        create_data.main(['nuscenes', '--root', str(copy), *options])
    assert '\n' not in str(error.value)
    assert not (copy / FOLDER).exists()


def test_a_split_without_annotations_is_refused(tmp_path: Path):
    from nuscenes_tree import HandmadeTree

    root = HandmadeTree(tmp_path / 'tree', annotated=False).write({'blind_train': ['scene-a']})
    summary = create_infos(root, progress=False)
    with pytest.raises(InputError, match='no annotated objects'):
        create_database({'blind_train': summary['blind_train']['path']}, progress=False)
