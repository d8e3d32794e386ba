from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import CosineAnnealingLR, CosineAnnealingMomentum
from shipped import config_path
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'

# Millions of parameters: those of mmdet3d's own networks, and PointDistiller's table, which gives one decimal.
PARAMETERS = {
    'point_pillars_secfpn_160e_kitti': 4.835,
    'point_pillars_secfpn_c4_160e_kitti': 1.217,
    'point_pillars_secfpn_c16_160e_kitti': 0.309,
    'second_secfpn_80e_kitti': 5.326,
    'second_secfpn_c4_80e_kitti': 1.343,
    'second_secfpn_c16_80e_kitti': 0.341,
    'point_rcnn_160e_kitti': 4.043,
    'point_rcnn_c8_160e_kitti': 0.518,
    'point_rcnn_c16_160e_kitti': 0.260,
    'point_pillars_fpn_24e_nuscenes': 6.147,
    'point_pillars_fpn_c2_24e_nuscenes': 3.116,
    'point_pillars_fpn_c4_24e_nuscenes': 1.550,
}
# Billions of multiply-accumulates without sparse convolutions, and the figure of PointDistiller's table.
GMACS = {
    'point_pillars_secfpn_160e_kitti': (34.174, 34.3),
    'point_pillars_secfpn_c4_160e_kitti': (8.914, 9.0),
    'point_pillars_secfpn_c16_160e_kitti': (2.414, 2.5),
    'second_secfpn_80e_kitti': (69.639, 69.8),
    'second_secfpn_c4_80e_kitti': (17.734, 17.8),
    'second_secfpn_c16_80e_kitti': (4.596, 4.6),
    'point_rcnn_160e_kitti': (96.839, 104.9),
    'point_rcnn_c8_160e_kitti': (12.182, 13.7),
    'point_rcnn_c16_160e_kitti': (6.197, 7.1),
}


def _model(name):
    return MODELS.build(Config.fromfile(config_path(name)).model)


@pytest.mark.parametrize('name', PARAMETERS)
def test_published_sizes(name):
    assert abs(sum(p.numel() for p in _model(name).parameters()) / 1e6 - PARAMETERS[name]) < 6e-4


def _on_the_map(model):
    middle = model.middle_encoder
    # SECOND's encoder leaves an eighth of its voxels a side.
    hw = (middle.ny, middle.nx) if hasattr(middle, 'ny') else [n // 8 for n in middle.sparse_shape[1:]]
    channels = model.backbone.blocks[0][0].in_channels
    model.bbox_head(model.neck(model.backbone(torch.empty(1, channels, *hw, device='meta'))))


def _run(layers, *shape):
    first = next(part for part in layers.modules() if hasattr(part, 'weight'))
    layers(torch.empty(shape[0], first.weight.shape[1], *shape[1:], device='meta'))


def _on_points(model, points):
    """All layers of PointRCNN on a cloud and 512 RoIs of 512 points; gathers and searches multiply nothing."""
    counts = [points, 4096, 1024, 256, 64]
    for module, count in zip(model.backbone.SA_modules, counts[1:], strict=True):
        for layers, samples in zip(module.mlps, (16, 32), strict=True):
            _run(layers, 1, count, samples)
    for module, count in zip(model.neck.FP_modules, counts[-2::-1], strict=True):
        _run(module.mlps, 1, count, 1)
    for layers in (model.rpn_head.cls_layers, model.rpn_head.reg_layers):
        _run(layers, points)
    head, rois = model.roi_head.bbox_head, 512
    for layers in (head.xyz_up_layer, head.merge_down_layer):
        _run(layers, rois, 512, 1)
    for module, (count, samples) in zip(head.SA_modules, ((128, 16), (32, 16), (1, 32)), strict=True):
        _run(module.mlps[0], rois, count, samples)
    for layers in (head.cls_convs, head.conv_cls, head.reg_convs, head.conv_reg):
        _run(layers, rois, 1)


def _giga(model, run):
    """Billions of multiply-accumulates, and of what biases, ReLUs (1 a value) and batch norms (2) take."""
    others, hooks = [], []
    for part in model.modules():
        weight = {nn.ReLU: 1, nn.BatchNorm1d: 2, nn.BatchNorm2d: 2}.get(type(part), 0)
        if isinstance(part, (nn.Conv1d, nn.Conv2d)) and part.bias is not None:
            weight = 1
        if weight:
            count = functools.partial(lambda weight, part, given, out: others.append(weight * out.numel()), weight)
            hooks.append(part.register_forward_hook(count))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() / 2e9, sum(others) / 1e9


@pytest.mark.parametrize('name', GMACS)
def test_published_multiply_accumulates(name):
    measured, published = GMACS[name]
    # Tensors without data: nothing is computed.
    model = _model(name).to('meta').eval()
    if 'rcnn' in name:
        assert abs(_giga(model, lambda: _on_points(model, 16384))[0] - measured) < 1e-3
        # The published figures are for the clouds of 40,000 points that mmdet3d's tool takes by default.
        multiplied, others = _giga(model, lambda: _on_points(model, 40000))
    else:
        multiplied, others = _giga(model, lambda: _on_the_map(model))
        assert abs(multiplied - measured) < 1e-3
    # They count norms, ReLUs and biases as well.
    assert abs(multiplied + others - published) < 0.051


def test_one_cycle_ends_with_the_momentum_that_it_began_with():
    config = Config.fromfile(CONFIGS / '_base_' / 'schedules' / 'one_cycle.py')
    steps = [(step.type, step.eta_min) for step in config.param_scheduler]
    lr, beta = config.optim_wrapper.optimizer.lr, config.optim_wrapper.optimizer.betas[0]
    assert steps == [
        (CosineAnnealingLR, lr * 10),
        (CosineAnnealingLR, lr * 1e-4),
        (CosineAnnealingMomentum, 0.85),
        (CosineAnnealingMomentum, beta),
    ]


@pytest.mark.parametrize('name', ['point_pillars_secfpn_160e_custom_boxes', 'second_secfpn_80e_kitti'])
def test_a_range_above_the_bases_reaches_every_part(name, tmp_path):
    shutil.copytree(CONFIGS, tmp_path / 'configs')
    leaf = tmp_path / 'configs/point_pillars/leaf.py'
    wanted = [-25.6, -12.8, -5, 25.6, 12.8, 3]
    leaf.write_text(
        'from mmengine.config import read_base\n'
        f'point_cloud_range = {wanted}\nwith read_base():\n    from ..{config_path(name).parent.name}.{name} import *\n'
    )
    config = load_config(leaf)
    train, test = config.train_dataloader.dataset.dataset.pipeline, config.test_dataloader.dataset.pipeline
    views = next(step for step in config.tta_pipeline if 'transforms' in step).transforms
    steps = [*train, *test, *(step for view in views for step in view)]
    assert [step.point_cloud_range for step in steps if 'point_cloud_range' in step] == [wanted] * 4
    model = config.model
    assert model.data_preprocessor.voxel_layer.point_cloud_range == wanted
    anchors = model.bbox_head.anchor_generator.ranges
    assert len(anchors) == 3 and all([*r[:2], *r[3:5]] == [-25.6, -12.8, 25.6, 12.8] for r in anchors)
    shape = model.middle_encoder.get('output_shape') or model.middle_encoder.sparse_shape[1:]
    assert shape == ([160, 320] if 'pillars' in name else [512, 1024])
    MODELS.build(model)


def test_own_classes_are_written_once(tmp_path):
    shutil.copytree(CONFIGS, tmp_path / 'configs')
    text = (CONFIGS / 'point_pillars/point_pillars_secfpn_160e_custom_boxes.py').read_text()
    own = """
objects = dict(
    Forklift=dict(size=[2.5, 1.2, 2.1], overlaps=[0.6, 0.4], score_overlap=0.7),
    Person=dict(size=[0.7, 0.6, 1.8], overlaps=[0.5, 0.3], score_overlap=0.3),
)
point_cloud_range = [-12.8, -6.4, -4, 12.8, 6.4, 2]
pillar_size = [0.2, 0.1]
ground_z_m, num_features = -1.5, 5
"""
    leaf = tmp_path / 'configs/point_pillars/leaf.py'
    leaf.write_text(text.replace('with read_base():', f'{own}\nwith read_base():'))
    config = load_config(leaf)
    model, head = config.model, config.model.bbox_head
    area = [-12.8, -6.4, -1.5, 12.8, 6.4, -1.5]
    assert (head.num_classes, head.anchor_generator.ranges) == (2, [area, area])
    assert head.anchor_generator.sizes == [[2.5, 1.2, 2.1], [0.7, 0.6, 1.8]]
    thresholds = [(part.pos_iou_thr, part.neg_iou_thr, part.min_pos_iou) for part in model.train_cfg.assigner]
    assert thresholds == [(0.6, 0.4, 0.4), (0.5, 0.3, 0.3)]
    assert model.middle_encoder.output_shape == [128, 128]
    assert model.data_preprocessor.voxel_layer.voxel_size == model.voxel_encoder.voxel_size == [0.2, 0.1, 6]
    data = config.train_dataloader.dataset.dataset
    paste = next(step for step in data.pipeline if 'db_sampler' in step).db_sampler
    assert data.metainfo.classes == paste.classes == ['Forklift', 'Person']
    assert paste.sample_groups.to_dict() == {'Forklift': 15, 'Person': 15}
    assert paste.min_points.to_dict() == {'Forklift': 5, 'Person': 5}
    assert data.pipeline[0].use_dim == paste.use_dim == model.voxel_encoder.in_channels == 5
    assert config.test_evaluator.iou_thresholds.to_dict() == {'Forklift': 0.7, 'Person': 0.3}
    MODELS.build(model)
    assert {'name', 'values', 'axis', 'pillars'}.isdisjoint(config)
    right = leaf.read_text()
    for old, new, fault in (
        ('[0.2, 0.1]', '[0.2, 0.11]', r'116.364 pillars of 0.11 m along y: .* such as 120, y from -6.6 to 6.6$'),
        ('[-12.8, -6.4', '[-12, -6.4', r'124 pillars of 0.2 m along x: .* such as 128, x from -12 to 13.6$'),
        (
            ', score_overlap=0.7',
            '',
            r"Forklift has the keys \['overlaps', 'size'\]: expected overlaps, score_overlap",
        ),
    ):
        leaf.write_text(right.replace(old, new))
        with pytest.raises(InputError, match=fault):
            load_config(leaf)
