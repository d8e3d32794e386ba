"""One Inferencer asked by two threads at the same time gives the answers of single calls."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kitti_tree import KittiTree
from mmengine.config import Config
from two_threads import answers_of_two_threads, is_same, meet_at_every_module

from perception3d.apis.config import load_config
from perception3d.apis.inferencer import Inferencer
from perception3d.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
ROUNDS = 4


def camera(tree: Path) -> tuple[Config, list[list[Path]]]:
    """Fast-BEV of four frames on small images, and two info files of the same five frames, forwards and backwards."""
    infos = [tree / f'perception3d_infos_hand_{split}.pkl' for split in ('val', 'backwards')]
    content = pickle.loads(infos[0].read_bytes())
    infos[1].write_bytes(pickle.dumps({**content, 'data_list': content['data_list'][::-1]}))
    options = {
        'data_root': str(tree),
        'test_dataloader.dataset.pipeline.1.final_hw': (32, 64),
        '+model.bbox_head.score_thr': 0.0,
    }
    config = load_config(CONFIGS / 'fast_bev/fast_bev_tiny_4frame_96x352_9e_sim.py', options)
    return config, [[path] for path in infos]


def lidar(root: Path) -> tuple[Config, list[list[Path]]]:
    """PointPillars with a small network, and two lists of five clouds."""
    KittiTree(root).write({'train': [f'{k:06d}' for k in range(10)]})
    config = load_config(CONFIGS / 'point_pillars/point_pillars_tiny_10e_kitti_sim.py')
    config.model.backbone.update(layer_nums=[1, 1, 1], out_channels=[8, 8, 64])
    config.model.neck.update(in_channels=[8, 8, 64], out_channels=[8, 8, 8])
    config.model.bbox_head.update(in_channels=24, feat_channels=24)
    config.model.test_cfg.update(score_thr=0.0, nms_pre=20)
    clouds = sorted((root / 'training' / 'velodyne').iterdir())
    return config, [clouds[:5], clouds[5:]]


@pytest.fixture(scope='module')
def cases(nuscenes_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    tree = shutil.copytree(nuscenes_tree, tmp_path_factory.mktemp('nuscenes') / 'tree')
    made = {'camera': camera(tree), 'lidar': lidar(tmp_path_factory.mktemp('kitti'))}
    weights = tmp_path_factory.mktemp('weights')
    for name, (config, _) in made.items():
        torch.manual_seed(0)
        torch.save({'state_dict': MODELS.build(config.model).state_dict()}, weights / f'{name}.pth')
    return {name: (*case, weights / f'{name}.pth') for name, case in made.items()}


@pytest.mark.parametrize('fast', [False, True], ids=['plain', 'fast'])
@pytest.mark.parametrize('kind', ['camera', 'lidar'])
def test_an_inferencer_gives_two_threads_the_answers_of_single_calls(cases: dict[str, tuple], kind: str, fast: bool):
    config, questions, checkpoint = cases[kind]
    inferencer = Inferencer(config, checkpoint, device='cpu', fast=fast)
    ask: Callable[[Path], list[Any]] = lambda path: list(inferencer(path))  # noqa: E731
    expected = [[ask(path) for path in part] for part in questions]
    first, second = ([sample for samples in part for sample in samples] for part in expected)
    # In step, the two threads never ask for the same frame, but for the middle one of an info file.
    assert sum(not is_same(*pair) for pair in zip(first, second, strict=True)) >= 4
    meet_at_every_module(inferencer.model)
    found = answers_of_two_threads(ask, *(part * ROUNDS for part in questions))
    for answers, wanted in zip(found, expected, strict=True):
        for samples, reference in zip(answers, wanted * ROUNDS, strict=True):
            assert all(len(sample.pred_instances_3d) > 0 for sample in reference)
            assert all(is_same(*pair) for pair in zip(samples, reference, strict=True))
