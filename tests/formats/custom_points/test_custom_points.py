"""Labelled clouds of one's own: classes, info files, samples, result files and their scores; every fault is named."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet3d.datasets.transforms import Pack3DDetInputs
from mmdet3d.structures import Det3DDataSample, PointData

from perception3d.apis.formats import find_command
from perception3d.checks import InputError
from perception3d.datasets.point_label_dataset import POINT_META_KEYS
from perception3d.datasets.transforms.lidar_loading import LoadCheckedPoints
from perception3d.datasets.transforms.point_labels import LoadPointLabels
from perception3d.evaluation.point_iou import count_confusion, kitti_iou
from perception3d.files import read_pickle
from perception3d.formats.custom_points.dataset import CustomPointsDataset
from perception3d.formats.custom_points.evaluation.folders import EvaluationOptions, evaluate_folders
from perception3d.formats.custom_points.evaluation.metric import CustomPointsMetric
from perception3d.formats.custom_points.files import EXAMPLE, read_classes
from perception3d.formats.custom_points.info import create_infos
from perception3d.structures.point_labels import IGNORE

CLASSES = {
    'classes': {'road': 40, 'car': [10, 252], 'tree': 7},
    'ignored': [0, 99],
    'things': ['car'],
}
STEPS = [
    dict(type=LoadCheckedPoints, load_dim=5, use_dim=4),
    dict(type=LoadPointLabels),
    dict(type=Pack3DDetInputs, keys=['points', 'pts_semantic_mask', 'pts_instance_mask'], meta_keys=POINT_META_KEYS),
]
IDS = np.array([40, 10 | 1 << 16, 252 | 2 << 16, 7, 0, 99], '<u4')


def write_tree(root: Path) -> Path:
    for part in ('ImageSets', 'points', 'labels'):
        (root / part).mkdir(parents=True)
    (root / 'classes.json').write_text(json.dumps(CLASSES))
    for split, names in {'train': ['a', 'b.1'], 'val': ['c'], 'test': ['d']}.items():
        (root / 'ImageSets' / f'{split}.txt').write_text('\n'.join(names) + '\n')
    for k, name in enumerate(('a', 'b.1', 'c', 'd')):
        points = np.random.default_rng(k).normal(0, 10, (12, 5)).astype('<f4')
        np.save(root / 'points' / f'{name}.npy', points) if k % 2 else points.tofile(root / 'points' / f'{name}.bin')
        if name != 'd':
            np.resize(IDS, 12).tofile(root / 'labels' / f'{name}.label')
    return root


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_tree(tmp_path_factory.mktemp('own') / 'tree')
    create_infos(root, 5, progress=False)
    return root


def build(root: Path, split: str = 'val', **kwargs: Any) -> CustomPointsDataset:
    kwargs = {'pipeline': STEPS, 'test_mode': True, 'serialize_data': False, **kwargs}
    return CustomPointsDataset(str(root), f'perception3d_infos_{split}.pkl', **kwargs)


def test_samples_have_the_classes_of_the_file(tree: Path):
    assert read_pickle(tree / 'perception3d_infos_train.pkl')['metainfo']['points'] == {'road': 4, 'car': 8, 'tree': 4}
    data = build(tree, 'train', test_mode=False)
    assert data.metainfo['classes'] == ('road', 'car', 'tree')
    for sample in data:
        found = sample['data_samples'].gt_pts_seg
        assert found.pts_semantic_mask[:6].tolist() == [0, 1, 1, 2, IGNORE, IGNORE]
        assert found.pts_instance_mask[:6].tolist() == [0, IDS[1], IDS[2], 0, 0, 0]
        assert sample['inputs']['points'].shape == (12, 4)
    # Fewer classes in another order: points of the others are not labelled.
    few = build(tree, metainfo=dict(classes=['tree', 'road']))
    assert few[0]['data_samples'].eval_ann_info['pts_semantic_mask'][:4].tolist() == [1, IGNORE, IGNORE, 0]
    assert build(tree, 'test')[0]['data_samples'].eval_ann_info is None


def test_the_axes_of_the_frame_are_not_taken_for_a_file(tree: Path, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    monkeypatch.setattr('mmengine.dataset.base_dataset.print_log', lambda text, **_: said.append(text))
    assert build(tree).metainfo['lidar_axes'] == 'x forward, y left'
    stated = dict(lidar_axes='x right, y forward', note='a text')
    assert build(tree, metainfo=stated).metainfo['lidar_axes'] == 'x right, y forward'
    assert [text for text in said if 'meta file' in text] == [
        'a text is not a meta file, simply parsed as meta information'
    ]


def test_result_files_are_scored_by_the_command(tree: Path, tmp_path: Path):
    data = build(tree)
    metric = CustomPointsMetric(format_dir=str(tmp_path))
    metric.dataset_meta = data.metainfo
    sample = data[0]['data_samples']
    sample.pred_pts_seg = PointData(pts_semantic_mask=torch.tensor([0, 1, 2, 2, 0, 1] * 2))
    metric.process({}, [sample.to_dict()])
    logged = metric.evaluate(1)
    assert np.fromfile(tmp_path / 'c.label', '<u4').tolist() == [40, 10, 7, 7, 40, 10] * 2
    scores, table = evaluate_folders(
        tree / 'labels', tmp_path, EvaluationOptions(by_distance=True, num_features=5, panoptic=True)
    )
    assert {f'custom_points/iou/{name}': value for name, value in scores['iou'].items()}.items() <= logged.items()
    assert (
        list(scores['iou'].values()) == pytest.approx([1, 0.5, 0.5]) and logged['custom_points/miou'] == scores['miou']
    )
    assert set(scores['by_distance']) == {'10', '20', '30', '40', '50'} and scores['panoptic']['stuff']['pq'] > 0
    assert '2 label files have no result file: those frames are not scored' in table
    # The same by options of the command; classes of another file.
    command, parser = find_command('custom-points', 'evaluate'), argparse.ArgumentParser()
    command.add_arguments(parser)
    (tmp_path / 'road.json').write_text('{"classes": {"road": 40}, "ignored": [10, 252, 7, 0, 99]}')
    args = parser.parse_args(['--classes', str(tmp_path / 'road.json')])
    args.gt, args.pred = str(tree / 'labels'), str(tmp_path)
    assert command.run(args)[0]['miou'] == pytest.approx(1)


def test_another_number_of_floats_than_the_clouds_have_is_named_with_its_option(tree: Path, tmp_path: Path):
    np.resize(IDS, 12).tofile(tmp_path / 'c.label')
    with pytest.raises(InputError, match=r'12 labels, .* 15 points of 4 floats: .* by --features \(5 would fit\)'):
        evaluate_folders(tree / 'labels', tmp_path, EvaluationOptions(by_distance=True))
    with pytest.raises(InputError, match=r'c\.bin is truncated: 240 bytes .* \(7 floats a point\); .* by --features'):
        evaluate_folders(tree / 'labels', tmp_path, EvaluationOptions(by_distance=True, num_features=7))


@pytest.mark.parametrize('num_classes', range(1, 13))
def test_scores_by_distance_leave_the_others_as_they_are(tmp_path: Path, num_classes: int):
    rng = np.random.default_rng(num_classes)
    for part in ('points', 'labels', 'results'):
        (tmp_path / part).mkdir()
    names = {f'class {k}': k + 1 for k in range(num_classes)}
    (tmp_path / 'classes.json').write_text(json.dumps({'classes': names, 'ignored': [0]}))
    distance_m = rng.uniform(1, 70, 400).astype('<f4')
    np.column_stack([distance_m, np.zeros((400, 3), '<f4')]).tofile(tmp_path / 'points' / 'a.bin')
    truth, predicted = rng.integers(0, num_classes + 1, (2, 400)).astype('<u4')
    truth.tofile(tmp_path / 'labels' / 'a.label')
    predicted.tofile(tmp_path / 'results' / 'a.label')
    plain, _ = evaluate_folders(tmp_path / 'labels', tmp_path / 'results')
    scores, _ = evaluate_folders(tmp_path / 'labels', tmp_path / 'results', EvaluationOptions(by_distance=True))
    assert {key: scores[key] for key in plain} == plain
    inside = (distance_m > 20) & (distance_m < 30)
    ring = kitti_iou(count_confusion(*(ids[inside].astype(np.int64) - 1 for ids in (predicted, truth)), num_classes))
    assert scores['by_distance']['30']['miou'] == ring.miou > 0


def test_a_raw_cloud_gets_a_label_file_with_the_ids_of_the_classes_next_to_it(tree: Path, tmp_path: Path):
    sample = Det3DDataSample(pred_pts_seg=PointData(pts_semantic_mask=torch.tensor([2, 1, 0])))
    lazy = dict(lazy_init=True, metainfo=dict(classes=('tree', 'car', 'road')))
    data = build(tree / 'points', **lazy)
    assert [found['token'] for found in data.sample_from_file(tree / 'points' / 'b.1.npy')] == ['b.1']
    assert data.write_result(sample, tmp_path / 'b.label')
    assert np.fromfile(tmp_path / 'b.label', '<u4').tolist() == [40, 10, 7]
    # Without that file there is no result file, but for a data set that names one.
    shutil.copy(tree / 'points' / 'a.bin', tmp_path / 'a.bin')
    data = build(tmp_path, **lazy)
    assert len(list(data.sample_from_file(tmp_path / 'a.bin'))) == 1 and not data.write_result(
        sample, tmp_path / 'a.label'
    )
    named = build(tmp_path, classes_file=str(tree / 'classes.json'), **lazy)
    assert named.write_result(sample, tmp_path / 'a.label')
    assert np.fromfile(tmp_path / 'a.label', '<u4').tolist() == [40, 10, 7]


@pytest.mark.parametrize('ids', [(7, 10, 40), (7, 10)])
def test_a_raw_cloud_gets_the_ids_that_the_checkpoint_keeps(tree: Path, tmp_path: Path, ids: tuple[int, ...]):
    sample = Det3DDataSample(pred_pts_seg=PointData(pts_semantic_mask=torch.tensor([2, 1, 0, IGNORE])))
    metainfo = dict(classes=('tree', 'car', 'road'), label_ids=ids)
    data = build(tmp_path, lazy_init=True, metainfo=metainfo)
    # Ids that do not go with the classes are not written.
    assert data.write_result(sample, tmp_path / 'b.label') == (len(ids) == 3)
    if len(ids) == 3:
        assert np.fromfile(tmp_path / 'b.label', '<u4').tolist() == [40, 10, 7, 0]
    # They are those of the file of classes in a training, which a checkpoint keeps.
    assert build(tree, 'train', metainfo=dict(metainfo)).metainfo['label_ids'] == [7, 10, 40]


def put(path: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / path).write_bytes(content)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (put('labels/a.label', bytes(40)), r'labels/a\.label holds 10 labels, but its scan has 12 points'),
        (
            put('labels/a.label', bytes(60)),
            r'a\.label holds 15 labels, .* 12 points of 5 floats: .* by --features \(4 would fit\), or copy',
        ),
        (put('points/a.bin', bytes(30)), r'a\.bin is truncated: 30 bytes .* 20 \(5 floats a point\); .* by --features'),
        (
            lambda root: np.save(root / 'points/b.1.npy', np.zeros((12, 4), '<f4')),
            r'b\.1\.npy holds float32 of shape \(12, 4\): expected .*\(N, 5\); .* by --features',
        ),
        (put('points/a.npy', b''), r'points holds a\.bin and a\.npy: expected one cloud for a frame'),
        (put('labels/c.label', b'\x08\0\0\0' * 12), r'labels/c\.label holds the unknown label ids 8 in 12 of 12'),
        (put('points/a.bin', b''), r'points/a\.bin holds no points'),
        (lambda root: (root / 'labels/c.label').unlink(), r'1 of 7 files .* missing .*1 in labels \(c\.label\)'),
        (lambda root: (root / 'classes.json').unlink(), r'classes\.json does not exist: write the classes'),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, spoil: Callable[[Path], None], message: str):
    root = write_tree(tmp_path / 'tree')
    spoil(root)
    with pytest.raises(InputError, match=message):
        create_infos(root, 5, progress=False)
    assert not list(root.glob('*.pkl'))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[1]', 'names no classes'),
        ('{"classes": {}}', 'names no classes'),
        ('{"classes": {"a": 1}, "thing": []}', r"unknown entry of .*'thing': did you mean 'things'"),
        ('{"classes": {"a": 70000}}', r'classes: a: expected an id of 0 to 65535, or a list of them, got 70000'),
        ('{"classes": {"a": []}}', r'classes: a: expected an id'),
        ('{"classes": {"a": true}}', r'classes: a: expected an id'),
        ('{"classes": {"a": 1, "b": [2, 1]}}', 'the id 1 stands twice'),
        ('{"classes": {"a": 1}, "ignored": [1]}', 'the id 1 stands twice'),
        ('{"classes": {"a": 1}, "things": ["b"]}', r"unknown class \(in things of .*\) 'b'"),
        ('{"classes": {"a": 1}, "things": "a"}', 'things is a list of classes'),
        (json.dumps({'classes': {str(k): k for k in range(255)}}), 'has 255 classes: expected fewer than 255'),
    ],
)
def test_files_of_classes_that_cannot_be_used_are_named(tmp_path: Path, content: str, message: str):
    (tmp_path / 'classes.json').write_text(content)
    with pytest.raises(InputError, match=message):
        read_classes(tmp_path / 'classes.json')


def test_the_example_is_a_file_of_classes(tmp_path: Path):
    (tmp_path / 'classes.json').write_text(EXAMPLE)
    assert read_classes(tmp_path / 'classes.json').encoding().label_of == {40: 0, 10: 1, 252: 1, 0: IGNORE}
    (tmp_path / 'classes.json').write_text('{"classes": {"a": 0, "b": 1}}')
    assert read_classes(tmp_path / 'classes.json').ignored == []


def test_results_that_cannot_be_scored_are_named(tree: Path, tmp_path: Path):
    with pytest.raises(InputError, match='holds no result files'):
        evaluate_folders(tree / 'labels', tmp_path)
    shutil.copy(tree / 'labels' / 'a.label', tmp_path / 'z.label')
    with pytest.raises(InputError, match=r'labels has no labels of frame z \(1 of 1 frames\)'):
        evaluate_folders(tree / 'labels', tmp_path)
    (tmp_path / 'z.label').rename(tmp_path / 'a.label')
    points = tmp_path / 'points'
    shutil.copytree(tree / 'points', points)
    np.save(points / 'a.npy', np.zeros((12, 5), np.float32))
    with pytest.raises(InputError, match=r'points holds a\.bin and a\.npy'):
        evaluate_folders(tree / 'labels', tmp_path, EvaluationOptions(by_distance=True, points=points, num_features=5))
    (tmp_path / 'a.label').write_bytes(bytes(8))
    with pytest.raises(InputError, match=r'a\.label holds 2 labels, but its scan has 12 points'):
        evaluate_folders(tree / 'labels', tmp_path)
    metric = CustomPointsMetric(format_dir=str(tmp_path), format_only=True)
    metric.dataset_meta = {'classes': ('a',)}
    with pytest.raises(InputError, match='result files need the ids of the classes'):
        metric.process({}, [{'frame_id': 'x', 'pred_pts_seg': {'pts_semantic_mask': torch.tensor([0])}}])
