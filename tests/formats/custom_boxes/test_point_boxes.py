"""LiDAR-only data: the documented label format, the infos, the data set, and files that cannot be used."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from kitti_tree import points_in
from mmengine.config import Config
from mmengine.registry import init_default_scope

from perception3d.checks import InputError
from perception3d.files import read_pickle
from perception3d.formats.custom_boxes.dataset import POINT_META_KEYS, PointBoxDataset
from perception3d.formats.custom_boxes.files import read_labels, write_labels
from perception3d.formats.custom_boxes.info import create_infos
from perception3d.registry import DATASETS
from tools import create_data

CONFIG = Path(__file__).resolve().parents[3] / 'configs' / '_base_' / 'datasets' / 'custom_boxes.py'
SIZES = {'Car': (4.0, 1.8, 1.6), 'Pedestrian': (0.7, 0.6, 1.8), 'Forklift': (2.5, 1.2, 2.1)}
SPLITS = {'train': ['yard_a', 'yard_b', 'yard_empty'], 'val': ['yard_c'], 'test': ['yard_d']}


def boxes_of(name: str) -> tuple[np.ndarray, list[str]]:
    """The boxes (bottom's middle) of a frame, all around the LiDAR, and their classes."""
    rng = np.random.default_rng(sum(map(ord, name)))
    if name == 'yard_empty':
        return np.zeros((0, 7)), []
    names = ['Car', 'Forklift', 'Pedestrian', 'Car']
    angles = rng.uniform(0, 1, 4) + np.arange(4) * 1.6
    places = np.column_stack([12 * np.cos(angles), 12 * np.sin(angles), np.full(4, -1.4)])
    return np.array([[*p, *SIZES[n], y] for p, n, y in zip(places, names, rng.uniform(-3, 3, 4))]), names


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with infos; yard_b is a .npy file of float64, the others are .bin. Read only."""
    root = tmp_path_factory.mktemp('lidar')
    for folder in ('ImageSets', 'points', 'labels'):
        (root / folder).mkdir()
    for split, names in SPLITS.items():
        (root / 'ImageSets' / f'{split}.txt').write_text('\n'.join(names))
        for name in names:
            rng = np.random.default_rng(len(name))
            boxes, classes = boxes_of(name)
            ground = np.column_stack([rng.uniform(-30, 30, (300, 2)), np.full(300, -1.6)])
            xyz = np.concatenate([ground, *(points_in(box, 25, rng) for box in boxes)])
            cloud = np.column_stack([xyz, rng.uniform(0, 1, len(xyz))])
            if name == 'yard_b':
                np.save(root / 'points' / f'{name}.npy', cloud)
            else:
                cloud.astype(np.float32).tofile(root / 'points' / f'{name}.bin')
            if split != 'test':
                write_labels(root / 'labels' / f'{name}.txt', boxes, classes)
    create_infos(root, progress=False)
    return root


@pytest.fixture
def broken(tree: Path, tmp_path: Path) -> Path:
    """A copy that the test may break."""
    return Path(shutil.copytree(tree, tmp_path / 'tree'))


def load(root: Path, split: str = 'train', **kwargs) -> PointBoxDataset:
    return PointBoxDataset(str(root), f'perception3d_infos_{split}.pkl', **kwargs)


def contents(root: Path) -> dict[str, bytes]:
    made = [*root.glob('perception3d_*.pkl'), *root.glob('perception3d_gt_database/*')]
    return {str(path.relative_to(root)): path.read_bytes() for path in made}


def test_a_label_gives_the_middle_of_a_box_and_we_keep_its_bottom(tmp_path: Path):
    path = tmp_path / 'x.txt'
    path.write_text('1.50 1.46 0.10 5.12 1.85 4.13 1.56 Vehicle\n\n5.54 0.57 0.41 1.08 0.74 1.95 1.57 Pedestrian\n')
    labels = read_labels(path)
    assert labels.names == ['Vehicle', 'Pedestrian']
    np.testing.assert_allclose(labels.boxes[0], [1.5, 1.46, 0.10 - 4.13 / 2, 5.12, 1.85, 4.13, 1.56])
    np.testing.assert_allclose(labels.boxes[1, 2], 0.41 - 1.95 / 2)
    write_labels(tmp_path / 'y.txt', labels.boxes, labels.names)
    np.testing.assert_allclose(read_labels(tmp_path / 'y.txt').boxes, labels.boxes, atol=1e-6)
    (tmp_path / 'z.txt').write_text('')
    assert read_labels(tmp_path / 'z.txt').boxes.shape == (0, 7)


def test_a_result_line_has_a_score_behind_it(tmp_path: Path):
    boxes = np.array([[1.5, -2, 0.25, 4, 2, 1.5, 0.5], [70, 3, -1, 3e-7, 1, 2, -3]], np.float32)
    scores = np.array([0.9, 0.1 + 1e-9], np.float32)
    write_labels(tmp_path / 'x.txt', boxes, ['Car', 'Van'], scores)
    assert (tmp_path / 'x.txt').read_text().splitlines()[0] == f'1.5 -2 1 4 2 1.5 0.5 Car {float(scores[0])!r}'
    found = read_labels(tmp_path / 'x.txt', scored=True)
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-7, atol=1e-6)
    np.testing.assert_array_equal(found.scores, scores.astype(np.float64))
    assert (found.names, found.lines) == (['Car', 'Van'], [1, 2])
    with pytest.raises(
        InputError, match=r'x.txt, line 1: 9 fields, expected 8; a line is: x y z dx dy dz heading class$'
    ):
        read_labels(tmp_path / 'x.txt')


def test_without_train_the_database_is_that_of_trainval(broken: Path, capsys: pytest.CaptureFixture):
    (broken / 'ImageSets' / 'trainval.txt').write_text('yard_a\nyard_c\n')
    for split in ('train', 'val', 'test'):
        (broken / 'ImageSets' / f'{split}.txt').unlink()
    assert create_data.main(['lidar', '--root', str(broken), '--jobs', '1']) == 0
    assert 'database of trainval: 8 objects' in capsys.readouterr().out
    table = read_pickle(broken / 'perception3d_dbinfos_train.pkl')
    assert {entry['image_idx'] for entries in table.values() for entry in entries} == {'yard_a', 'yard_c'}


def test_heading_turns_from_x_to_y_with_the_length_along_it(tmp_path: Path):
    (tmp_path / 'x.txt').write_text(f'10 0 0 4 1 2 {np.pi / 2} Car\n')
    box = read_labels(tmp_path / 'x.txt').boxes
    from mmdet3d.structures import LiDARInstance3DBoxes

    corners = LiDARInstance3DBoxes(box).corners[0]
    assert corners[:, 1].max() == pytest.approx(2.0, abs=1e-5)
    assert corners[:, 0].max() == pytest.approx(10.5, abs=1e-5)
    assert corners[:, 2].min() == pytest.approx(-1.0, abs=1e-5)


def test_samples_have_the_boxes_and_no_image(tree: Path):
    dataset = load(tree)
    assert dataset.metainfo['classes'] == ('Car', 'Forklift', 'Pedestrian')
    assert len(dataset) == 3
    for index, name in enumerate(SPLITS['train']):
        sample = dataset.get_data_info(index)
        assert sample['frame_id'] == sample['token'] == name
        assert Path(sample['lidar_path']).is_file()
        assert 'images' not in sample
        boxes, classes = boxes_of(name)
        found = dataset.get_ann_info(index)
        np.testing.assert_allclose(found['gt_bboxes_3d'].tensor, boxes, atol=1e-5)
        assert [dataset.metainfo['classes'][label] for label in found['gt_labels_3d']] == classes
        assert found['num_lidar_pts'].tolist() == [25] * len(boxes)


def test_classes_are_chosen_and_ordered_by_the_config(tree: Path):
    dataset = load(tree, metainfo=dict(classes=('Pedestrian', 'Car')))
    assert dataset.get_ann_info(0)['gt_labels_3d'].tolist() == [1, 0, 1]
    assert dataset.get_cat_ids(0) == {0, 1}
    with pytest.raises(InputError, match="'Forklfit': did you mean 'Forklift'"):
        load(tree, metainfo=dict(classes=('Forklfit',)))


def test_frames_without_labels_are_only_for_testing(tree: Path):
    sample = load(tree, 'test', test_mode=True)[0]
    assert sample['frame_id'] == 'yard_d'
    assert 'eval_ann_info' not in sample
    with pytest.raises(InputError, match='frames without labels'):
        load(tree, 'test')
    assert len(load(tree, 'val', test_mode=True)[0]['eval_ann_info']['gt_labels_3d']) == 4


def test_infos_of_another_format_are_refused(tree: Path, broken: Path):
    path = broken / 'perception3d_infos_train.pkl'
    path.unlink()
    with pytest.raises(InputError, match=f'python tools/create_data.py custom-boxes --root {broken}'):
        load(broken)
    with pytest.raises(InputError, match=f'python tools/create_data.py custom-boxes --root {broken}'):
        load(broken, metainfo=dict(classes=('Car',)))


def test_the_database_has_the_objects_of_train(tree: Path):
    table = read_pickle(tree / 'perception3d_dbinfos_train.pkl')
    assert {name: len(entries) for name, entries in table.items()} == {'Car': 4, 'Forklift': 2, 'Pedestrian': 2}
    for entry in (entry for entries in table.values() for entry in entries):
        own = np.fromfile(tree / entry['path'], np.float32).reshape(-1, 4)
        assert len(own) == entry['num_points_in_gt'] == 25
        assert own[:, 2].min() >= 0, 'relative to the middle of the bottom'
        assert entry['difficulty'] == 0


def test_the_pipelines_of_the_base_config(tree: Path):
    init_default_scope('mmdet3d')
    np.random.seed(0)
    torch.manual_seed(0)
    config = Config.fromfile(str(CONFIG))
    classes = ['Pedestrian', 'Car']
    train = copy.deepcopy(config['train_dataloader']['dataset']['dataset'])
    train.update(data_root=str(tree), metainfo=dict(classes=classes))
    sampler = next(step['db_sampler'] for step in train['pipeline'] if 'db_sampler' in step)
    sampler.update(data_root=str(tree), classes=classes)
    # A dict is assigned: update() would merge it with the classes of the base.
    sampler.sample_groups, sampler.min_points = dict(Car=5), dict(Car=5)
    packed = DATASETS.build(train)[0]
    sample = packed['data_samples']
    assert set(sample.metainfo) <= set(POINT_META_KEYS)
    assert sample.metainfo['lidar_axes'] == 'x forward, y left'
    assert packed['inputs']['points'].shape[1] == 4
    assert len(sample.gt_instances_3d.bboxes_3d) == len(sample.gt_instances_3d.labels_3d) > 0
    val = copy.deepcopy(config['val_dataloader']['dataset'])
    val.update(data_root=str(tree), metainfo=dict(classes=classes))
    packed = DATASETS.build(val)[0]
    assert packed['data_samples'].metainfo['frame_id'] == 'yard_c'
    assert len(packed['data_samples'].eval_ann_info['gt_bboxes_3d']) == 3


def test_the_command_keeps_the_classes_asked_for(broken: Path, capsys: pytest.CaptureFixture):
    before = read_pickle(broken / 'perception3d_infos_val.pkl')['metainfo']['categories']
    assert before == {'Car': 0, 'Forklift': 1, 'Pedestrian': 2}
    create_data.main(['lidar', '--root', str(broken), '--classes', 'Forklift', 'Car'])
    printed = capsys.readouterr().out
    assert 'train: 3 frames ->' in printed
    assert 'no such file: trainval' in printed
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.split()[0] in SIZES}
    assert rows == {'Car': ['4', '2', '0', '4'], 'Forklift': ['2', '1', '0', '2'], 'Pedestrian': ['2', '1', '0', '0']}
    content = read_pickle(broken / 'perception3d_infos_val.pkl')
    assert content['metainfo']['categories'] == {'Forklift': 0, 'Car': 1}
    assert [box['bbox_label_3d'] for box in content['data_list'][0]['instances']] == [1, 0, -1, 1]
    assert list(read_pickle(broken / 'perception3d_dbinfos_train.pkl')) == ['Car', 'Forklift']
    assert len(load(broken).get_ann_info(0)['gt_labels_3d']) == 3


def test_other_numbers_of_features(broken: Path):
    for path in (broken / 'points').iterdir():
        points = np.load(path) if path.suffix == '.npy' else np.fromfile(path, np.float32).reshape(-1, 4)
        path.unlink()
        np.save(path.with_suffix('.npy'), np.column_stack([points, points[:, :2]]).astype(np.float16))
    create_infos(broken, num_features=6, progress=False)
    assert load(broken).get_data_info(0)['num_pts_feats'] == 6
    entry = read_pickle(broken / 'perception3d_dbinfos_train.pkl')['Car'][0]
    assert np.fromfile(broken / entry['path'], np.float32).size == 6 * entry['num_points_in_gt']
    with pytest.raises(InputError, match='a point has 2 floats'):
        create_infos(broken, num_features=2, progress=False)


def edit_label(line: str) -> Callable[[Path], None]:
    """Damage: `line` is the second one of a label file."""

    def damage(root: Path) -> None:
        path = root / 'labels' / 'yard_a.txt'
        first = path.read_text().splitlines()[0]
        path.write_text(f'{first}\n{line}\n')

    return damage


def break_size(root: Path) -> None:
    (root / 'points' / 'yard_a.bin').write_bytes(b'\0' * 30)


def break_nan(root: Path) -> None:
    points = np.load(root / 'points' / 'yard_b.npy')
    points[3, 1] = np.nan
    np.save(root / 'points' / 'yard_b.npy', points)


def break_shape(root: Path) -> None:
    np.save(root / 'points' / 'yard_b.npy', np.zeros((5, 3)))


def break_type(root: Path) -> None:
    np.save(root / 'points' / 'yard_b.npy', np.zeros((5, 4), np.int32))


def break_npy(root: Path) -> None:
    (root / 'points' / 'yard_b.npy').write_bytes(b'no array')


def break_cloud(root: Path) -> None:
    np.save(root / 'points' / 'yard_b.npy', np.zeros((0, 4)))


def break_labels(root: Path) -> None:
    (root / 'labels' / 'yard_c.txt').unlink()


def break_points(root: Path) -> None:
    (root / 'points' / 'yard_b.npy').unlink()


def break_split(root: Path) -> None:
    (root / 'ImageSets' / 'train.txt').write_text('yard_a\nyard_b\nyard_a\n')


def break_id(root: Path) -> None:
    (root / 'ImageSets' / 'train.txt').write_text('../yard_a\n')


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (edit_label('1 2 3 4 5 6 Car'), r'labels/yard_a.txt, line 2: 7 fields, expected 8; a line is: x y z dx dy dz'),
        (edit_label('1 2 3 4 5 6 seven Car'), r"yard_a.txt, line 2: 'seven' is not a number"),
        (edit_label('1 2 nan 4 5 6 7 Car'), r'yard_a.txt, line 2: nan is not finite'),
        (edit_label('1 2 3 4 0 6 7 Car'), r'yard_a.txt, line 2: sizes dx dy dz of 4 0 6, expected more than 0'),
        (edit_label('1 2 3 4 5 6 7 a/b'), r"yard_a.txt, line 2: 'a/b' is not a class name"),
        (break_size, r'yard_a.bin is truncated: 30 bytes'),
        (break_nan, r'yard_b.npy holds NaN or infinity in 1 of 400 points \(first: point 3\)'),
        (break_shape, r'yard_b.npy holds float64 of shape \(5, 3\): expected floats of shape \(N, 4\)'),
        (break_type, r'yard_b.npy holds int32 of shape'),
        (break_npy, r'yard_b.npy is not a readable .npy file'),
        (break_cloud, r'yard_b.npy holds no points'),
        (break_labels, r'1 of 9 files .* are missing in .*: 1 in labels \(yard_c.txt\)'),
        (break_points, r'1 of 9 files .*: 1 in points \(yard_b.npy\)'),
        (break_split, r'train.txt, line 3: frame yard_a is already in line 1'),
        (break_id, r"train.txt, line 1: '../yard_a' is not a frame id"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_earlier_files(broken: Path, damage: Callable[[Path], None], words: str):
    before = contents(broken)
    damage(broken)
    with pytest.raises(InputError, match=words) as error:
        create_data.main(['lidar', '--root', str(broken)])
    assert '\n' not in str(error.value)
    assert contents(broken) == before
    assert not list(broken.glob('.perception3d*'))


def test_objects_of_two_frames_that_would_share_a_file_are_refused(broken: Path):
    before = contents(broken)
    boxes, _ = boxes_of('yard_a')
    for name, kind in (('yard', 'a_Car'), ('yard_a', 'Car')):
        shutil.copy(broken / 'points' / 'yard_a.bin', broken / 'points' / f'{name}_x.bin')
        write_labels(broken / 'labels' / f'{name}_x.txt', boxes, [f'y_{kind}'] * len(boxes))
    (broken / 'points' / 'yard_x.bin').rename(broken / 'points' / 'yard_a_x_y.bin')
    (broken / 'labels' / 'yard_x.txt').unlink()
    write_labels(broken / 'labels' / 'yard_a_x_y.txt', boxes, ['Car'] * len(boxes))
    (broken / 'ImageSets' / 'train.txt').write_text('yard_a_x\nyard_a_x_y\n')
    with pytest.raises(InputError, match='frames yard_a_x and yard_a_x_y both have an object whose points go to'):
        create_infos(broken, progress=False)
    assert contents(broken) == before


def test_a_class_that_never_occurs_is_refused_before_anything_is_replaced(broken: Path):
    before = contents(broken)
    with pytest.raises(InputError, match="'Cra': did you mean 'Car'"):
        create_data.main(['lidar', '--root', str(broken), '--classes', 'Cra'])
    assert contents(broken) == before
