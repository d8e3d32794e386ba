from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.optim import CosineAnnealingLR, CosineAnnealingMomentum

from perception3d.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'

# Millions of parameters: PointDistiller's table gives one decimal, the sizes of mmdet3d's own networks three.
PARAMETERS = {
    'point_pillars_secfpn_160e_kitti': 4.835,
    'point_pillars_secfpn_4x_160e_kitti': 1.217,
    'point_pillars_secfpn_16x_160e_kitti': 0.309,
    'second_secfpn_80e_kitti': 5.326,
    'second_secfpn_4x_80e_kitti': 1.343,
    'second_secfpn_16x_80e_kitti': 0.341,
}
ONE_DECIMAL = {'point_rcnn_160e_kitti': 4.1, 'point_rcnn_8x_160e_kitti': 0.5, 'point_rcnn_16x_160e_kitti': 0.3}


def _millions(name):
    config = Config.fromfile(CONFIGS / 'lidar_det' / f'{name}.py')
    return sum(p.numel() for p in MODELS.build(config.model).parameters()) / 1e6


@pytest.mark.parametrize('name', PARAMETERS)
def test_published_sizes(name):
    assert abs(_millions(name) - PARAMETERS[name]) < 1e-3


@pytest.mark.parametrize('name', ONE_DECIMAL)
def test_published_sizes_of_point_rcnn(name):
    assert abs(_millions(name) - ONE_DECIMAL[name]) < 0.06


def test_the_students_of_nuscenes_have_half_and_a_quarter_of_the_parameters():
    full, half, quarter = (_millions(f'point_pillars_fpn{suffix}_24e_nuscenes') for suffix in ('', '_2x', '_4x'))
    assert 1.9 < full / half < 2.1 and 3.9 < full / quarter < 4.1


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
