"""The tools on a LiDAR detector: train, test, test-time augmentation, fast inference, result files, benchmark."""

from __future__ import annotations

import json

import pytest
import torch
from kitti_tree import KittiTree
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from shipped import CONFIGS, config_path

from perception3d.apis.config import load_config
from perception3d.apis.option_texts import parse_options
from perception3d.apis.testing import test as run_test
from perception3d.apis.training import train
from perception3d.benchmark.lidar_det import (
    benchmark_lidar,
    benchmark_lidar_ops,
    box_gap,
    with_upstream_classes,
    without_counterpart,
)
from perception3d.checks import InputError
from perception3d.compat.mmcv_ext import ops_are_compiled
from perception3d.formats.kitti.files import read_objects
from perception3d.formats.kitti.info import create_infos

CONFIG = config_path('point_pillars_tiny_c4_10e_kitti_sim')
DETECTORS = ('center_point', 'point_pillars', 'point_rcnn', 'second')
VAL = ['000004', '000005']


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    tree = KittiTree(tmp_path_factory.mktemp('kitti'))
    tree.write({'train': [f'{k:06d}' for k in range(4)], 'val': VAL})
    create_infos(tree.root, progress=False)
    return tree


@pytest.fixture(scope='module')
def options(tree):
    return [
        f'data_root={tree.root}',
        'train_cfg.max_epochs=3',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
        'test_dataloader.num_workers=0',
        'default_hooks.logger.interval=1',
        # Hardly trained: whatever it finds is drawn, written and scored.
        'model.test_cfg.score_thr=0.0',
        'custom_hooks.0.last_epochs=1',
    ]


@pytest.fixture(scope='module')
def checkpoint(options, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('work')
    train(CONFIG, options, work_dir=str(work_dir))
    log = next(work_dir.rglob('scalars.json')).read_text()
    losses = [json.loads(line)['loss'] for line in log.splitlines() if '"loss"' in line]
    assert len(losses) == 6 and losses[-1] < losses[0]
    return work_dir / 'epoch_3.pth'


def test_scores_come_by_frame_and_class_and_fast_inference_has_the_same(options, checkpoint, tmp_path):
    plain = run_test(CONFIG, checkpoint, options, work_dir=str(tmp_path / 'a'))
    assert {'kitti/3d/car/moderate/R40', 'kitti/bev/pedestrian/hard/R11', 'kitti/3d/mAP/moderate/R40'} <= plain.keys()
    fast = run_test(CONFIG, checkpoint, options, work_dir=str(tmp_path / 'b'), fast=True)
    assert fast.keys() == plain.keys()
    assert all(abs(fast[key] - plain[key]) < 0.2 for key in plain)


@pytest.mark.parametrize('tta', [False, True])
def test_result_files_are_named_by_frame_and_hold_the_best_boxes(options, checkpoint, tmp_path, tta):
    run_test(CONFIG, checkpoint, options, work_dir=str(tmp_path / 'w'), format_only=str(tmp_path / 'results'), tta=tta)
    files = sorted((tmp_path / 'results').rglob('*.txt'))
    assert [file.stem for file in files] == VAL
    objects = [read_objects(file, scored=True) for file in files]
    assert sum(map(len, objects)) > 0
    assert all(set(found.names) <= {'Car', 'Pedestrian', 'Cyclist'} for found in objects)


@pytest.mark.parametrize('name', [CONFIG.stem, 'second_tiny_c4_10e_kitti_sim'])
def test_ours_and_mmdet3d_compute_the_same_in_the_benchmark(options, name):
    if 'second' in name:
        pytest.importorskip('spconv')
    config = load_config(config_path(name), parse_options(options))
    rows = benchmark_lidar(config, torch.device('cpu'), runs=1)
    compiled = ops_are_compiled()
    assert [row['parts'] for row in rows] == ['mmdet3d' if compiled else 'mmdet3d on our ops', 'ours', 'ours, --fast']
    assert all(float(row['difference']) < 1e-4 and row['times faster'] > 0 for row in rows)
    assert float(rows[2]['difference']) > 0 and all(row['peak MiB'] > 0 for row in rows)
    ops = benchmark_lidar_ops(config, runs=1)
    assert len(ops) == 3 and all(row['ours ms'] > 0 for row in ops)
    assert all(row['difference'] < 1e-5 if compiled else row['mmcv ms'] == 'not compiled' for row in ops)


def test_boxes_of_trained_weights_are_compared_in_the_benchmark(options, checkpoint, tmp_path):
    weights = torch.load(checkpoint, weights_only=False)['state_dict']
    # So little trained, it is sure of nothing.
    weights['bbox_head.conv_cls.bias'] += 4
    torch.save(weights, tmp_path / 'sure.pth')
    config = load_config(CONFIG, parse_options(options))
    rows = benchmark_lidar(config, torch.device('cpu'), 1, str(tmp_path / 'sure.pth'))
    matched, found = rows[0]['boxes matched'].split(' of ')
    assert matched == found and int(found) > 5
    for row in rows:
        assert row['boxes matched'] == rows[0]['boxes matched'] and row['peak MiB'] > 0
        assert float(row['box difference']) < 1e-3 and float(row['score difference']) < 1e-4
    with pytest.raises(InputError, match='missing.pth'):
        benchmark_lidar(config, torch.device('cpu'), 1, 'missing.pth')


def _boxes(rows, scores, labels):
    boxes = torch.tensor([[*row[:2], 0, 4, 2, 1.5, row[2]] for row in rows])
    return InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes), scores_3d=torch.tensor(scores), labels_3d=torch.tensor(labels)
    )


def test_the_gap_of_boxes_is_that_of_the_nearest_pairs_of_a_class():
    wanted = _boxes([[0, 0, 3.13], [10, 0, 0], [20, 0, 0], [30, 0, 0]], [0.9, 0.8, 0.7, 0.05], [0, 1, 0, 0])
    # In another order; the first turned over pi, one of another class, one new, one that nobody is sure of.
    found = _boxes(
        [[10, 0, 0], [0.25, 0, -3.13], [20, 0, 0], [50, 0, 0], [30, 0, 0]], [0.8, 0.7, 0.7, 0.5, 0.1], [1, 0, 1, 0, 0]
    )
    gap = box_gap(wanted, found)
    assert gap == {'boxes matched': '2 of 4', 'box difference': '2.5e-01', 'score difference': '2.0e-01'}
    none = {'boxes matched': '0 of 4', 'box difference': '-', 'score difference': '-'}
    assert box_gap(_boxes([[90, 0, 0]], [0.9], [0]), found) == none
    assert box_gap(wanted[:0], found) == none


@pytest.mark.parametrize('name', sorted(path.stem for name in DETECTORS for path in (CONFIGS / name).glob('*.py')))
def test_nothing_of_ours_is_in_the_row_of_mmdet3d(name):
    settings = load_config(config_path(name)).model
    before = _types(settings)
    upstream = _types(with_upstream_classes(settings))
    assert any(cls.__module__.startswith('perception3d') for cls in before)
    # mmdet3d has no head for crowds; its row says so.
    ours = [cls.__name__ for cls in upstream if cls.__module__.startswith('perception3d')]
    assert ours == (['DensityHeatmapHead'] if '_crowd' in name and 'center_point' in name else [])
    assert without_counterpart(with_upstream_classes(settings)) == [f'our {cls}' for cls in ours]
    # What is not ours stays as it is.
    assert all(new is old for new, old in zip(upstream, before, strict=True) if not old.__module__.startswith('perc'))


def _types(settings):
    found = [settings['type']] if isinstance(settings.get('type'), type) else []
    return found + [cls for value in settings.values() if isinstance(value, dict) for cls in _types(value)]
