"""The benchmark of lane networks next to SCNN."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.benchmark import find_benchmarks
from perception3d.benchmark.lane import benchmark_lanes
from perception3d.checks import InputError
from perception3d.models.lane.enet import ENet
from perception3d.models.lane.losses import LaneCrossEntropyLoss
from perception3d.models.lane.preprocessor import LanePreprocessor
from perception3d.models.lane.row_decoder import RowDecoder
from perception3d.models.lane.segmentor import LaneSegmentor

CPU = torch.device('cpu')


def test_sizes_and_times_of_both_networks():
    model = dict(
        type=LaneSegmentor,
        data_preprocessor=dict(type=LanePreprocessor),
        net=dict(type=ENet, num_lanes=4, input_hw=(16, 16)),
        losses=dict(seg=dict(type=LaneCrossEntropyLoss)),
        decoder=dict(type=RowDecoder),
    )
    row = benchmark_lanes(Config(dict(model=model)), CPU, runs=1)
    # A linear layer depends on the input: it reads one pixel of 5 channels here, 900 at 288 x 800.
    assert row['parameters, M'] == pytest.approx(0.998325 - (4500 - 5) * 128 / 1e6)
    assert row['parameters, M, SCNN / own'] == row['parameters, M, SCNN'] / row['parameters, M'] > 20
    assert row['GMACs, SCNN'] > row['GMACs'] > 0 and row['input'] == '16x16'
    assert all(row[name] > 0 for name in ('network ms', 'network ms, fast', 'predict ms', 'predict ms, SCNN'))
    assert 'lane' in find_benchmarks()


@pytest.mark.parametrize('name', ['clrnet_r18_320x800_15e_culane', 'lane_agnostic_enet_208x976_12e_culane'])
def test_networks_without_slots_are_compared_too(name):
    config = load_config(config_path(name), dict(input_hw=[64, 160]))
    row = benchmark_lanes(config, CPU, runs=1)
    assert row['input'] == '160x64' and row['parameters, M'] < 12 < 20 < row['parameters, M, SCNN']
    assert row['predict ms'] > 0 and row['predict ms, SCNN'] > 0


def test_other_configs_are_refused():
    with pytest.raises(InputError, match='is not a lane config: its model has no decoder of lanes, or no input_hw'):
        benchmark_lanes(Config(dict(model=dict(type='A'))), CPU, runs=1)
