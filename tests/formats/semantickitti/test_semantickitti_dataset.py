"""SemanticKITTI trees: info files, samples with a label for each point, result files; what is wrong is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet3d.datasets.transforms import Pack3DDetInputs
from mmdet3d.structures import Det3DDataSample, PointData
from semantickitti_tree import write_tree

from perception3d.checks import InputError
from perception3d.datasets.point_label_dataset import POINT_META_KEYS
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.datasets.transforms.point_labels import LoadPointLabels
from perception3d.files import read_pickle
from perception3d.formats.semantickitti.dataset import SemanticKittiDataset
from perception3d.formats.semantickitti.files import CLASSES, LABEL_IDS, MULTI_SCAN_CLASSES, class_of, label_encoding
from perception3d.formats.semantickitti.info import create_infos
from perception3d.structures.point_labels import IGNORE

STEPS = [
    dict(type=LoadCheckedPoints, load_dim=4, use_dim=4),
    dict(type=LoadPointLabels),
    dict(type=Pack3DDetInputs, keys=['points', 'pts_semantic_mask', 'pts_instance_mask'], meta_keys=POINT_META_KEYS),
]


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_tree(tmp_path_factory.mktemp('semantickitti'), {'00': 2, '08': 3})
    write_tree(root, {'11': 1}, labelled=False)
    create_infos(root, progress=False)
    return root


def build(root: Path, split: str, **kwargs: Any) -> SemanticKittiDataset:
    kwargs = {'pipeline': STEPS, 'test_mode': split != 'train', **kwargs}
    # mmengine collects garbage for a second where it serializes.
    kwargs.setdefault('serialize_data', False)
    return SemanticKittiDataset(data_root=str(root), ann_file=f'perception3d_infos_{split}.pkl', **kwargs)


def test_the_learning_maps_are_those_of_the_benchmark():
    # Of semantic-kitti.yaml and semantic-kitti-all.yaml of the official tools, minus 1; -1 is not scored.
    single = {
        0: -1, 1: -1, 10: 0, 11: 1, 13: 4, 15: 2, 16: 4, 18: 3, 20: 4, 30: 5, 31: 6, 32: 7, 40: 8, 44: 9, 48: 10,
        49: 11, 50: 12, 51: 13, 52: -1, 60: 8, 70: 14, 71: 15, 72: 16, 80: 17, 81: 18, 99: -1, 252: 0, 253: 6, 254: 5,
        255: 7, 256: 4, 257: 4, 258: 3, 259: 4,
    }  # fmt: skip
    multi = {**single, 252: 19, 253: 20, 254: 21, 255: 22, 256: 23, 257: 23, 258: 24, 259: 23}
    for classes, learning_map in ((CLASSES, single), (MULTI_SCAN_CLASSES, multi)):
        encoding = label_encoding(classes)
        expected = {number: IGNORE if label < 0 else label for number, label in learning_map.items()}
        assert encoding.label_of == expected
    inverse = [10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81, 252, 253, 254, 255, 259, 258]
    assert label_encoding(MULTI_SCAN_CLASSES).encode(np.arange(25)).tolist() == inverse
    assert label_encoding(CLASSES).encode(np.array([18, 0, IGNORE, -1])).tolist() == [81, 10, 0, 0]
    assert class_of('moving-on-rails', False) == 'other-vehicle'
    assert label_encoding(('road', 'car')).label_of[48] == IGNORE


def test_infos_of_all_splits_count_points(tree: Path):
    content = read_pickle(tree / 'perception3d_infos_val.pkl')
    assert [info['frame_id'] for info in content['data_list']] == ['08_000000', '08_000001', '08_000002']
    stored = [np.fromfile(path, '<u4') & 0xFFFF for path in sorted((tree / 'sequences/08/labels').iterdir())]
    assert content['metainfo']['points']['moving-car'] == (np.concatenate(stored) == 252).sum() > 0
    other = np.isin(np.concatenate(stored), [13, 16, 20]).sum()
    assert content['metainfo']['points']['other-vehicle'] == other
    sizes = {split: len(read_pickle(tree / f'perception3d_infos_{split}.pkl')['data_list']) for split in
             ('train', 'val', 'trainval', 'test')}  # fmt: skip
    assert sizes == {'train': 2, 'val': 3, 'trainval': 5, 'test': 1}
    test = read_pickle(tree / 'perception3d_infos_test.pkl')['data_list'][0]
    assert not test['labelled'] and 'pts_semantic_mask_path' not in test and test['timestamp'] == 0


def test_a_sample_has_a_label_for_each_point(tree: Path):
    sample = build(tree, 'train', serialize_data=True)[1]
    stored = np.fromfile(tree / 'sequences/00/labels/000001.label', '<u4')
    labels = sample['data_samples'].gt_pts_seg.pts_semantic_mask
    assert labels.dtype == torch.int64 and sample['inputs']['points'].shape == (61, 4)
    encoding = label_encoding()
    assert labels.tolist() == [encoding.label_of[number] for number in (stored & 0xFFFF).tolist()]
    objects = sample['data_samples'].gt_pts_seg.pts_instance_mask
    assert objects.tolist() == [number if number >> 16 else 0 for number in stored.tolist()]
    assert sample['data_samples'].eval_ann_info is None
    tested = build(tree, 'val')[2]['data_samples']
    assert (tested.eval_ann_info['pts_semantic_mask'] == tested.gt_pts_seg.pts_semantic_mask.numpy()).all()
    assert tested.frame_id == '08_000002' and tested.scene_token == '08'
    unlabelled = build(tree, 'test')[0]['data_samples']
    assert unlabelled.eval_ann_info is None and 'pts_semantic_mask' not in unlabelled.gt_pts_seg


def test_a_result_file_has_the_ids_of_the_benchmark(tree: Path, tmp_path: Path):
    dataset = build(tree, 'val', metainfo=dict(classes=MULTI_SCAN_CLASSES))
    sample = Det3DDataSample(metainfo=dict(num_scored_points=25))
    assert not dataset.write_result(sample, tmp_path / 'a.label')
    sample.pred_pts_seg = PointData(pts_semantic_mask=torch.arange(30) % 25)
    assert dataset.write_result(sample, tmp_path / 'a.label')
    assert np.fromfile(tmp_path / 'a.label', '<u4').tolist() == [LABEL_IDS[name] for name in MULTI_SCAN_CLASSES]
    assert dataset.write_result(sample, tmp_path / 'a.label')
    with pytest.raises(InputError, match='000000.label would be among the labels of a data set'):
        dataset.write_result(sample, tree / 'sequences/08/labels/000000.label')
    (tmp_path / 'b.label').write_bytes(b'1234')
    with pytest.raises(InputError, match='b.label is not a result of this cloud'):
        dataset.write_result(sample, tmp_path / 'b.label')


def test_the_real_scan_is_built_alone(samples_of, tmp_path: Path):
    (tmp_path / 'sequences').symlink_to(samples_of('semantickitti') / 'sequences')
    summary = create_infos(tmp_path, progress=False)['splits']
    assert list(summary) == ['train', 'trainval'] and summary['train']['frames'] == 1
    counts = summary['train']['classes']
    assert sum(counts.values()) == 123389 and counts['moving-car'] == 990 and counts['not scored'] == 6924
    labels = build(tmp_path, 'train')[0]['data_samples'].gt_pts_seg.pts_semantic_mask
    assert np.bincount(labels, minlength=256)[[0, 8, IGNORE]].tolist() == [544 + 990, 20975, 6924]


def remove(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


def write(path: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_bytes(content)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (write('labels/000001.label', bytes(8)), r'labels/000001\.label holds 2 labels, but its scan has 61 points'),
        (write('labels/000001.label', bytes(7)), r'labels/000001\.label is truncated: 7 bytes'),
        (write('labels/000000.label', b'\7\0\0\0' * 60), r'labels/000000\.label holds the unknown label ids 7 in 60'),
        (write('velodyne/000001.bin', b''), r'velodyne/000001\.bin holds no points'),
        (write('velodyne/000001.bin', bytes(20)), r'velodyne/000001\.bin is truncated: 20 bytes'),
        (write('velodyne/first.bin', bytes(16)), r'velodyne/first\.bin is not a scan: expected six digits'),
        (remove('labels/000001.label'), r'1 of 2 scans have no label file in .*/08/labels \(first: 000001\)'),
        (remove('velodyne/000000.bin'), r'1 of 2 label files in .*/08/labels have no scan \(first: 000000\)'),
    ],
)
def test_files_of_a_tree_that_cannot_be_used_are_named(tmp_path: Path, spoil: Callable[[Path], None], message: str):
    root = write_tree(tmp_path, {'08': 2}, poses=False)
    spoil(root / 'sequences' / '08')
    with pytest.raises(InputError, match=message):
        create_infos(root, progress=False)
    assert not list(root.glob('*.pkl'))


def test_folders_of_a_tree_that_are_missing_are_named(tmp_path: Path):
    with pytest.raises(InputError, match='sequences does not exist: the tree is'):
        create_infos(tmp_path, progress=False)
    (tmp_path / 'sequences' / '99').mkdir(parents=True)
    with pytest.raises(InputError, match='has none of the sequences 00 to 21'):
        create_infos(tmp_path, progress=False)
    write_tree(tmp_path, {'03': 1}, labelled=False)
    with pytest.raises(InputError, match='03/labels does not exist: sequence 03 is annotated'):
        create_infos(tmp_path, progress=False)


def test_labels_that_do_not_fit_are_named_in_a_pipeline(tree: Path, tmp_path: Path):
    root = Path(shutil.copytree(tree, tmp_path / 'tree'))
    (root / 'sequences/00/labels/000000.label').write_bytes(bytes(4))
    with pytest.raises(InputError, match=r'labels/000000\.label holds 1 labels, but its scan has 60 points'):
        build(root, 'train')[0]
    with pytest.raises(InputError, match=r'has frames without labels: train on another split'):
        build(root, 'test', test_mode=False)
