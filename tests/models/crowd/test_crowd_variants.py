"""The configs of two frames and of cloud and camera: their data and networks fit, and a step of training runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from shipped import config_path
from stcrowd_tree import write_tree

from perception3d.apis.config import load_config
from perception3d.datasets.transforms.lidar_loading import LoadPreviousCloud
from perception3d.datasets.transforms.point_painting import AddImagePixels
from perception3d.formats.stcrowd.info import create_infos
from perception3d.registry import DATASETS, MODELS

_SMALL = {
    'point_cloud_range': [0, -5.12, -4, 7.68, 5.12, 2],
    'pillar_channels': 8,
    'block_channels': [8, 16, 16],
    'neck_channels': 8,
    'head_channels': 8,
}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = write_tree(tmp_path_factory.mktemp('variants'))
    create_infos(root, 1, progress=False)
    return root


@pytest.mark.parametrize('name', ['dha_two_frame', 'dha_camera'])
def test_a_step_of_training_runs_on_what_the_config_loads(name, root):
    options = {**_SMALL, 'data_root': str(root)} | ({'image_hw': [18, 32]} if name == 'dha_camera' else {})
    config = load_config(config_path(f'{name}_tiny_256x256_10e_stcrowd_sim'), options)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    np.random.seed(0)
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    batch = pseudo_collate([dataset[0], dataset[1]])
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values()) and losses['loss_heatmap'] > 0
    assert all(p.grad is not None for key, p in model.named_parameters() if 'image_neck.fpn_convs.1' not in key)
    tested = DATASETS.build(config.test_dataloader.dataset)
    with torch.no_grad():
        (found,) = model.eval()(**model.data_preprocessor(pseudo_collate([tested[1]]), False), mode='predict')
    assert found.pred_instances_3d.bboxes_3d.tensor.shape[1] == 9


@pytest.mark.parametrize('name', ['dha_two_frame', 'dha_camera'])
def test_the_large_configs_have_the_grid_of_the_others(name):
    config = Config.fromfile(config_path(f'{name}_256x256_40e_stcrowd'))
    plain = Config.fromfile(config_path('dha_pillar_256x256_40e_stcrowd'))
    assert config.model.bbox_head.parts == plain.model.bbox_head.parts
    assert config.model.middle_encoder == plain.model.middle_encoder
    plain_steps, steps = ([step['type'] for step in each.train_dataloader.dataset.pipeline] for each in (plain, config))
    assert [step for step in steps if step not in (LoadPreviousCloud, AddImagePixels)] == plain_steps
    assert len(steps) == len(plain_steps) + 1
    MODELS.build(config.model)
