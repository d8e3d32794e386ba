"""Configs of crowds: strides of their maps, and the rows of the grid, which differ by one switch each."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from mmengine.config import Config
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.registry import MODELS

# Name, pillars a cell of the map, what the backbone takes: channels and pillars a cell.
MAPS = {
    'center_point_pillar_crowd_stride8_256x256_40e_stcrowd': (8, 64, 1),
    'center_point_pillar_crowd_stride4_256x256_40e_stcrowd': (4, 64, 1),
    'center_point_pillar_crowd_stride2_256x256_40e_stcrowd': (2, 64, 1),
    'center_point_pillar_crowd_stride1_256x256_40e_stcrowd': (1, 64, 1),
    'center_point_voxel_crowd_stride8_256x256_40e_stcrowd': (8, 64, 8),
    'center_point_voxel_crowd_stride4_256x256_40e_stcrowd': (4, 192, 4),
    'center_point_voxel_crowd_stride1_256x256_40e_stcrowd': (1, 448, 2),
    'dha_fine_256x256_40e_stcrowd': (1, 64, 1),
}
# Rows of the grid, each with what differs from the row before.
ROWS = {
    'center_point_pillar_crowd{}_stride2': {},
    'dha_d_mean{}': dict(levels=3, aggregation='mean'),
    'dha_f_learned{}': dict(aggregation='learned'),
    'dha_g_density{}': dict(aggregation='density', density=True),
    'dha_h_kernel{}': dict(kernel='density'),
    'dha_i_weighted{}': dict(weighted=True),
    'dha{}': dict(coarse=True),
}


@pytest.mark.parametrize('name', MAPS)
def test_maps_have_the_stride_of_their_name(name):
    stride, channels, taken = MAPS[name]
    model = MODELS.build(Config.fromfile(config_path(name)).model).to('meta').eval()
    with torch.no_grad():
        canvas = torch.empty(1, channels, 256 // taken, 256 // taken, device='meta')
        maps = model.bbox_head(model.neck(model.backbone(canvas)))
    assert maps.heatmap.shape == (1, 1, 256 // stride, 256 // stride)
    assert maps.codes.shape == (1, 10, 256 // stride, 256 // stride)


@pytest.mark.parametrize('size, ending', [('', '256x256_40e_stcrowd'), ('_tiny', '256x256_10e_stcrowd_sim')])
def test_rows_of_the_grid_differ_by_one_switch(size, ending):
    heads = {}
    for name in (*ROWS, 'dha_e_max{}'):
        full = f'{name.format(size if size or name != "dha{}" else "_pillar")}_{ending}'
        heads[name] = Config.fromfile(config_path(full)).model.bbox_head
    before = None
    for name, change in ROWS.items():
        head = MODELS.build(heads[name])
        switches = dataclasses.asdict(head.rules) | dataclasses.asdict(head.parts)
        before = switches if before is None else before
        assert switches == before | change, name
        before = switches
    maximum, mean = heads['dha_e_max{}'], heads['dha_d_mean{}']
    assert maximum.parts == {**mean.parts, 'aggregation': 'max'} and maximum.targets == mean.targets


def test_unknown_velocities_reach_the_heads_that_leave_them_out():
    steps = load_config(config_path('dha_pillar_256x256_40e_stcrowd')).train_dataloader.dataset.pipeline
    anchors = load_config(config_path('point_pillars_crowd_256x256_40e_stcrowd')).train_dataloader.dataset.pipeline
    names = [[step['type'].__name__ for step in pipeline] for pipeline in (steps, anchors)]
    assert 'ZeroUnknownVelocities' not in names[0] and 'AddIgnoredBoxes' in names[0]
    assert 'ZeroUnknownVelocities' in names[1]
