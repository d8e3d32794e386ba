"""The shipped configs of MinkUNet and SPVCNN: their values, and a step from files to labels on a handmade tree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from semantickitti_tree import write_tree
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.formats.semantickitti.info import create_infos
from perception3d.registry import DATASETS, MODELS


@pytest.mark.parametrize(
    ('name', 'ratio', 'size_m', 'limit'),
    [
        ('mink_unet_tiny_20cm_12e_semantickitti_sim', 0.25, 0.2, None),
        ('spvcnn_w064_5cm_15e_semantickitti', 0.64, 0.05, 80_000),
    ],
)
def test_width_cubes_and_limit_are_those_of_the_name(name, ratio, size_m, limit):
    config = load_config(config_path(name))
    assert config.model.net.channel_ratio == ratio
    assert config.model.data_preprocessor.partition.voxel_size_m == size_m
    limits = [step for step in config.train_dataloader.dataset.pipeline if 'max_voxels' in step]
    assert [(step.max_voxels, step.voxel_size_m) for step in limits] == ([(limit, size_m)] if limit else [])


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    root = write_tree(tmp_path_factory.mktemp('semantickitti'), {'00': 3, '08': 1})
    create_infos(root, jobs=1, progress=False)
    return root


@pytest.mark.parametrize(
    ('name', 'step'),
    [
        ('mink_unet_w100_5cm_mix_45e_semantickitti', 'RandomChoice'),
        ('spvcnn_w100_5cm_paste_15e_semantickitti', 'PasteInstances'),
    ],
)
def test_a_step_from_files_to_labels(name, step, tree):
    options = {'data_root': str(tree), 'channel_ratio': 0.07, 'voxel_size_m': 2.0, 'max_voxels': 40}
    config = load_config(config_path(name), options)
    for loader in (config.train_dataloader, config.val_dataloader):
        # mmengine collects garbage for a second where it serializes.
        loader.dataset.serialize_data = False
    torch.manual_seed(0)
    np.random.seed(0)
    model = MODELS.build(config.model).train()
    dataset = DATASETS.build(config.train_dataloader.dataset)
    names = [type(part).__name__ for part in dataset.pipeline.transforms]
    assert names[:4] == ['LoadCheckedPoints', 'LoadPointLabels', step, 'GlobalRotScaleTrans']
    data = model.data_preprocessor(pseudo_collate([dataset[0], dataset[2]]), True)
    assert len(data['inputs']['voxels'].coords) <= 80
    total, _ = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    assert torch.isfinite(total)
    assert all(value.grad is not None for value in model.parameters())
    held_out = DATASETS.build(dict(config.val_dataloader.dataset, pipeline=config.tta_pipeline))
    tta = MODELS.build(dict(config.tta_model, module=model)).eval()
    with torch.no_grad():
        (predicted,) = tta.test_step(pseudo_collate([held_out[0]]))
    assert len(predicted.pred_pts_seg.pts_semantic_mask) == 60
