"""Parts of a model that state one grid, or one number of classes, are compared when the model is built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.models.middle_encoders import PointPillarsScatter
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.compat.checked_models import check_parts
from perception3d.compat.pillar_maps import require_inside
from perception3d.models.lidar_det.pillars import RowPillarsScatter
from perception3d.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
PILLARS = 'point_pillars/point_pillars_tiny_10e_kitti_sim'
SECOND = 'second/second_tiny_10e_kitti_sim'
CENTER = 'center_point/center_point_pillar_cyclic20e_nuscenes'
FAST_BEV = 'fast_bev/fast_bev_tiny_96x352_9e_sim'
LAYER = 'data_preprocessor.voxel_layer'
# Config, settings of its model, what the error contains.
WRONG = {
    'coarser voxels': (
        PILLARS,
        {f'{LAYER}.voxel_size': [0.4, 0.4, 4], 'voxel_encoder.voxel_size': [0.4, 0.4, 4]},
        r'middle_encoder.output_shape is \[200, 200\], but data_preprocessor.voxel_layer .*\[100, 100\]',
    ),
    'farther': (
        PILLARS,
        {f'{LAYER}.point_cloud_range': [0, -20, -3, 60, 20, 1]},
        r'voxel_encoder.point_cloud_range is \[0, -20, -3, 40, 20, 1\], but .* \[0, -20, -3, 60, 20, 1\]',
    ),
    'x and y exchanged': (PILLARS, {'middle_encoder.output_shape': [100, 400]}, r'\[100, 400\], but .*\[200, 200\]'),
    'size of the encoder': (PILLARS, {'voxel_encoder.voxel_size': [0.16, 0.16, 4]}, 'voxel_size is .*0.16.*but.*0.2'),
    'anchors': (
        PILLARS,
        {'bbox_head.anchor_generator.ranges.1': [0, -39.68, -0.6, 69.12, 39.68, -0.6]},
        r'bbox_head.anchor_generator.ranges\[1\] .*69.12, 39.68\], but .*\[0, -20, 40, 20\]',
    ),
    'not a whole number': (PILLARS, {f'{LAYER}.voxel_size': [0.3, 0.3, 4]}, 'along x: 40 m / 0.3 m = 133.33'),
    'sparse shape': (SECOND, {'middle_encoder.sparse_shape': [41, 400, 200]}, r'sparse_shape\[1:\] is .*400, 400'),
    'layers of the sparse shape': (SECOND, {'middle_encoder.sparse_shape': [21, 400, 400]}, '21 layers, but .* 40'),
    'corner of the coder': (
        CENTER,
        {'pts_bbox_head.bbox_coder.pc_range': [-50, -51.2]},
        r'pts_bbox_head.bbox_coder.pc_range is \[-50, -51.2\], but .*\[-51.2, -51.2\]',
    ),
    'stride of the coder': (
        CENTER,
        {'pts_bbox_head.bbox_coder.out_size_factor': 8},
        'bbox_coder.out_size_factor is 8, but the map of the head has a stride of 4',
    ),
    'stride of the network': (
        CENTER,
        {'pts_backbone.layer_strides': [1, 2, 2]},
        'bbox_coder.out_size_factor is 4, but the map of the head has a stride of 2',
    ),
    'stride of the targets': (CENTER, {'train_cfg.pts.out_size_factor': 2}, 'train_cfg.pts.out_size_factor is 2'),
    'cells of the targets': (CENTER, {'train_cfg.pts.grid_size': [1024, 512, 1]}, 'grid_size is .*1024.*512, 512'),
    'size of the test': (CENTER, {'test_cfg.pts.voxel_size': [0.1, 0.1]}, 'test_cfg.pts.voxel_size is .*0.1.*0.2'),
    'assigners': (PILLARS, {'train_cfg.assigner': None}, '2 assigners, but bbox_head.anchor_generator.sizes has 3'),
    'too few classes': (PILLARS, {'bbox_head.num_classes': 2}, 'num_classes is 2, but .* have 3 entries'),
    'too many classes': (PILLARS, {'bbox_head.num_classes': 4}, 'num_classes is 4, but .* have 3 entries'),
    'range of the head': (
        FAST_BEV,
        {'bbox_head.range_m': (-51.2, -51.2, 51.2, 51.2)},
        r'range of grids\[0\] in metres .* is \[-25.6, .*, but that of the map of bbox_head is \[-51.2',
    ),
    'range of the FreeAnchor head': (
        'fast_bev/fast_bev_tiny_96x352_free_anchor_9e_sim',
        {'bbox_head.anchors': None},
        r'range of grids\[0\] in metres .* is \[-25.6, .*\[-50, -50, 50, 50\]',
    ),
    'channels of the frames': (FAST_BEV, {'neck_3d.fuse_channels': 100}, 'takes 100 channels .* a frame has 64: 16 of'),
    'range of the pillars': (
        'bev_former/bev_former_tiny_96x352_9e_sim',
        {'encoder.grid.range_m': (-30, -30, 30, 30)},
        r'range of encoder.grid in metres .* is \[-30, -30, 30, 30\]',
    ),
    'range of the decoder': (
        'bev_former/bev_former_tiny_r50_450x800_24e_nuscenes',
        {'encoder.grid.range_m': (-50, -50, 50, 50)},
        r'\[-51.2, -51.2, 51.2, 51.2\]',
    ),
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet3d')


def _model(config, settings):
    model = load_config(CONFIGS / f'{config}.py').model
    for key, value in settings.items():
        node, *path = model, *key.split('.')
        for part in path[:-1]:
            node = node[part]
        if path[-1] == 'assigner':
            value = node.assigner[:2]
        node[int(path[-1]) if path[-1].isdigit() else path[-1]] = value
    return model


@pytest.mark.parametrize('case', WRONG)
def test_two_places_that_disagree_are_named(case):
    config, settings, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        MODELS.build(_model(config, settings))


def test_the_runner_and_the_parts_of_a_distiller_are_compared_too():
    config, settings, message = WRONG['anchors']
    wrong = _model(config, settings)
    with pytest.raises(InputError, match=message):
        Runner.build_model(None, wrong)
    distiller = load_config(CONFIGS / 'point_distiller/point_distiller_fitnets_tiny_c4_10e_kitti_sim.py').model
    distiller.student = wrong
    with pytest.raises(InputError, match=message):
        MODELS.build(distiller)


def test_sizes_and_ranges_of_anchors_go_together():
    model = _model(PILLARS, {'bbox_head.anchor_generator.ranges': [[0, -20, -1, 40, 20, -1]] * 2})
    with pytest.raises(InputError, match='anchor_generator has 3 sizes, but 2 ranges'):
        MODELS.build(model)


@pytest.mark.parametrize('config', [PILLARS, SECOND, CENTER, 'center_point/center_point_voxel_cyclic20e_nuscenes'])
def test_a_grid_that_is_changed_everywhere_is_built(config):
    """All that depends on the range doubled in x: a model that is not shipped is built as well."""
    model = _model(config, {})
    prefix = 'pts_' if 'pts_bbox_head' in model else ''
    layer, middle = model[LAYER.split('.')[0]].voxel_layer, model[f'{prefix}middle_encoder']
    span = list(layer.point_cloud_range)
    span[3] += span[3] - span[0]
    layer.point_cloud_range = span
    key = 'output_shape' if 'output_shape' in middle else 'sparse_shape'
    middle[key] = [*middle[key][:-1], 2 * middle[key][-1]]
    if 'point_cloud_range' in model[f'{prefix}voxel_encoder']:
        model[f'{prefix}voxel_encoder'].point_cloud_range = span
    head = model[f'{prefix}bbox_head']
    if 'anchor_generator' in head:
        ranges = head.anchor_generator.ranges
        head.anchor_generator.ranges = [[*low[:3], span[3], *low[4:]] for low in ranges]
    else:
        head.bbox_coder.post_center_range = [*span[:3], *span[3:]]
        model.test_cfg.pts.post_center_limit_range = span
        model.train_cfg.pts.point_cloud_range = span
        cells = model.train_cfg.pts.grid_size
        model.train_cfg.pts.grid_size = [2 * cells[0], *cells[1:]]
    assert MODELS.build(model) is not None


@pytest.mark.parametrize('scatter_class', [RowPillarsScatter, PointPillarsScatter])
def test_a_pillar_outside_the_map_is_not_put_into_the_next_row(scatter_class):
    scatter = scatter_class(in_channels=1, output_shape=[4, 8])
    with pytest.raises(InputError, match=r'cell \(0, 8\) of a map of \(4, 8\) cells'):
        scatter(torch.ones(1, 1), torch.tensor([[0, 0, 0, 8]]), 1)
    with pytest.raises(InputError, match='a voxel lies in cell'):
        scatter(torch.ones(1, 1), torch.tensor([[0, 0, -1, 7]]), 1)
    require_inside(torch.zeros(0, 4, dtype=torch.long), (4, 8))


def test_what_upstream_and_users_may_mean_is_built():
    # mmdet3d's PointPillars of nuScenes lays out its anchors between the centres of cells.
    inner = [[0.4, -19.6, -0.6, 39.6, 19.6, -0.6]] * 3
    span = np.array([0, -20, -3, 40, 20, 1.0])
    model = MODELS.build(_model(PILLARS, {'bbox_head.anchor_generator.ranges': inner}))
    model.data_preprocessor.voxel_layer.point_cloud_range = span
    check_parts(model)
    model.voxel_encoder.point_cloud_range = span + [0, 0, 0, 2, 0, 0]
    with pytest.raises(InputError, match=r'\[0, -20, -3, 42, 20, 1\], but data_preprocessor.voxel_layer'):
        check_parts(model)
    narrow = {'pts_bbox_head.bbox_coder.post_center_range': [-40, -40, -10, 40, 40, 10]}
    model = MODELS.build(_model(CENTER, narrow))
    model.pts_backbone.forward = lambda maps, metas: maps
    model.pts_bbox_head.bbox_coder.out_size_factor = 8
    del model.pts_bbox_head.train_cfg
    check_parts(model)
