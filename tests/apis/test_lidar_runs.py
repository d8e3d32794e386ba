"""The tools on a LiDAR detector: train, test, test-time augmentation, fast inference, result files, benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from kitti_tree import KittiTree

from perception3d.apis.benchmark_lidar import benchmark_lidar, benchmark_lidar_ops
from perception3d.apis.config import load_config, parse_options
from perception3d.apis.testing import test as run_test
from perception3d.apis.training import train
from perception3d.datasets.kitti_info import create_infos
from perception3d.kitti_files import read_objects

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'lidar_det' / 'point_pillars_tiny_4x_10e_kitti_sim.py'
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


def test_ours_and_mmdet3d_compute_the_same_in_the_benchmark(options):
    config = load_config(CONFIG, parse_options(options))
    rows = benchmark_lidar(config, torch.device('cpu'), runs=1)
    assert [row['parts'] for row in rows] == ['mmdet3d', 'ours', 'ours, --fast']
    assert all(float(row['difference']) < 1e-4 and row['times faster'] > 0 for row in rows)
    assert float(rows[2]['difference']) > 0
    ops = benchmark_lidar_ops(config, torch.device('cpu'), runs=1)
    assert len(ops) == 3 and all(row['difference'] < 1e-5 for row in ops)
