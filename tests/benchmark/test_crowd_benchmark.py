from __future__ import annotations

import pytest
import torch
from mmengine.config import Config

from perception3d.benchmark import Settings, find_benchmarks
from perception3d.benchmark.crowd import benchmark_crowd, benchmark_head, crowd_cloud
from perception3d.checks import InputError
from perception3d.models.crowd.painting import PaintedVoxelNet
from perception3d.models.crowd.two_frame import TwoFrameVoxelNet
from tests.models.crowd.crowd_parts import RANGE_M, tiny_settings

SPAN = [*RANGE_M[:2], -4, *RANGE_M[2:], 2]


def test_the_cloud_is_ground_and_people_within_the_range():
    cloud = crowd_cloud([0, -20.48, -4, 30.72, 20.48, 2], 5)
    assert cloud.shape == (16000, 5) and cloud.dtype == torch.float32
    ground = (cloud[:, 2] + 1.7).abs() < 1e-4
    assert 0.5 < ground.float().mean() < 0.99 and (cloud[~ground, 2] > -1.7).all() and (cloud[:, 2] < 0.05).all()
    assert cloud[:, 0].min() >= 0 and cloud[:, 0].max() < 30.72
    with pytest.raises(InputError, match='is the ground at z = -1.7 m in it'):
        crowd_cloud([0, -5, 10, 7, 5, 12], 4)


def test_crowd_times_the_same_network_twice():
    config = Config(dict(model=tiny_settings()))
    plain, fast = benchmark_crowd(config, Settings(torch.device('cpu'), runs=1))
    assert plain['points'] == 16000 and plain['map'] == '32x32' and float(fast['difference']) < 1e-4
    parts = {'data_preprocessor', 'voxel_encoder', 'middle_encoder', 'backbone', 'neck', 'bbox_head', 'decoding'}
    assert parts <= {name.removesuffix(' ms') for name in fast} and all(fast[f'{part} ms'] != 0 for part in parts)
    assert 'crowd' in find_benchmarks()


@pytest.mark.parametrize(('detector', 'more'), [(TwoFrameVoxelNet, 'frame before'), (PaintedVoxelNet, 'an image')])
def test_a_model_that_needs_more_than_a_cloud_is_named(detector, more):
    settings = tiny_settings()
    settings.type = detector
    with pytest.raises(InputError, match=f'{detector.__name__} needs .*{more}.*--part model'):
        benchmark_crowd(Config(dict(model=settings)), Settings(torch.device('cpu'), runs=1))


def test_targets_and_decoding_are_timed_by_part():
    settings = Settings(torch.device('cpu'), runs=1)
    tables = benchmark_head(Config(dict(model=tiny_settings())), settings)
    drawn, decoded = tables.values()
    assert [row['people'] for row in drawn] == [25, 500] and decoded[0]['most boxes'] == 200
    times = [value for row in (*drawn, *decoded) for name, value in row.items() if name.endswith(' ms')]
    assert len(times) == 7 and min(times) > 0
