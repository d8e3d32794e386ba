"""Versions of nuScenes by their official names, from create_data to a submission that the devkit reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nuscenes import NuScenes
from nuscenes.eval.common.loaders import load_prediction
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.utils.splits import create_splits_scenes
from nuscenes_tree import HandmadeTree

from perception3d.apis.config import load_config
from perception3d.files import read_pickle
from perception3d.registry import MODELS
from tools import create_data, test

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'fast_bev' / 'fast_bev_tiny_96x352_9e_sim.py'
SPLITS = create_splits_scenes()


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes to train on, one to validate and one to test on, and the info files of all. Read only."""
    root = tmp_path_factory.mktemp('nuscenes')
    known = (SPLITS['train'][0], SPLITS['val'][0], SPLITS['train'][-1])
    HandmadeTree(root, 'v1.0-trainval', scenes=known, keyframes=2).write()
    HandmadeTree(root, 'v1.0-test', scenes=(SPLITS['test'][0],), keyframes=3, annotated=False).write()
    for version in ('v1.0-trainval', 'v1.0-test'):
        assert create_data.main(['nuscenes', '--root', str(root), '--version', version]) == 0
    return root


def test_create_data_writes_a_file_for_each_official_split(root: Path):
    assert sorted(path.name for path in root.glob('*.pkl')) == [
        f'perception3d_infos_{s}.pkl' for s in ('test', 'train', 'val')
    ]
    for split, version, scenes in (
        ('train', 'v1.0-trainval', {SPLITS['train'][0], SPLITS['train'][-1]}),
        ('val', 'v1.0-trainval', {SPLITS['val'][0]}),
        ('test', 'v1.0-test', {SPLITS['test'][0]}),
    ):
        content = read_pickle(root / f'perception3d_infos_{split}.pkl')
        assert content['metainfo']['version'] == version
        assert {info['token'].split()[1] for info in content['data_list']} == scenes
        assert all(bool(info['instances']) == (split != 'test') for info in content['data_list'])


@pytest.mark.parametrize(('split', 'version'), [('val', 'v1.0-trainval'), ('test', 'v1.0-test')])
def test_the_submission_of_a_split_is_one_that_the_devkit_reads(root: Path, tmp_path: Path, split: str, version: str):
    torch.manual_seed(0)
    model = MODELS.build(load_config(CONFIG).model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'random.pth')
    options = [
        f'data_root={root}',
        f'test_dataloader.dataset.ann_file=perception3d_infos_{split}.pkl',
        'test_dataloader.num_workers=0',
    ]
    command = [str(CONFIG), str(tmp_path / 'random.pth'), '--work-dir', str(tmp_path), '--cfg-options', *options]
    assert test.main([*command, '--format-only', str(tmp_path / 'out')]) == 0
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['results_nusc.json']
    boxes, meta = load_prediction(str(tmp_path / 'out' / 'results_nusc.json'), 500, DetectionBox)
    assert meta == dict(use_camera=True, use_lidar=False, use_radar=False, use_map=False, use_external=False)
    nusc = NuScenes(version, str(root), verbose=False)
    wanted = {sample['token'] for sample in nusc.sample if sample['token'].split()[1] in SPLITS[split]}
    assert set(boxes.sample_tokens) == wanted and len(wanted) == (2 if split == 'val' else 3)
    assert boxes.all and all(np.isfinite(box.translation).all() and min(box.size) > 0 for box in boxes.all)
