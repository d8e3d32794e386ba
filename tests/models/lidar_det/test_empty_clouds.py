"""A cloud without a point in range has no boxes, wherever it stands in a batch; the other clouds keep theirs."""

from __future__ import annotations

import copy

import pytest
import torch
from mmdet3d.datasets.transforms import PointSample
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmdet3d.structures.points import LiDARPoints
from shipped import config_path
from tiny_lidar import DETECTORS, clouds, shrink

from perception3d.apis.config import load_config
from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.point_distiller import PointDistiller
from perception3d.models.inference.acceleration import accelerate
from perception3d.models.lidar_det.tta import LidarTTAModel
from perception3d.registry import MODELS

DYNAMIC = {'dynamic_pillars': 'point_pillars_secfpn_160e_kitti', 'dynamic_voxels': 'second_secfpn_80e_kitti'}
NAMES = [*DETECTORS, *DYNAMIC]


def _settings(name):
    settings = load_config(config_path(DYNAMIC.get(name, name))).model
    shrink(settings, cells=64)
    for part in ('backbone', 'pts_backbone'):
        if 'layer_nums' in settings.get(part, {}):
            settings[part].layer_nums = [1] * len(settings[part].layer_nums)
    if name in DYNAMIC:
        layer = settings.data_preprocessor.voxel_layer
        layer.update(max_num_points=-1, max_voxels=(-1, -1))
        settings.data_preprocessor.voxel_type = 'dynamic'
        common = dict(voxel_size=layer.voxel_size, point_cloud_range=layer.point_cloud_range)
        encoder = 'DynamicPillarFeatureNet' if 'pillar' in name else 'DynamicVFE'
        width = settings.middle_encoder.in_channels
        settings.voxel_encoder = dict(type=encoder, in_channels=4, feat_channels=[width], **common)
        settings.type = 'DynamicVoxelNet'
    return settings


def _build(name):
    if 'second' in name or 'voxel' in name:
        pytest.importorskip('spconv')
    torch.manual_seed(0)
    return MODELS.build(_settings(name))


def _columns(name):
    return DETECTORS[DYNAMIC.get(name, name)]


def _batch(name, order):
    """A batch of full clouds 'A' and 'B', clouds out of range 'x', clouds without points '0', one point 'p'."""
    features, labels, columns = _columns(name)
    full = clouds(features, labels, columns)
    of = {'A': full['inputs']['points'][0], 'B': full['inputs']['points'][1]}
    of |= {'x': torch.full((5, features), -500.0), '0': torch.zeros(0, features)}
    of['p'] = of['A'][:1].repeat(1500, 1) if 'rcnn' in name else of['A'][:1]
    points, samples = [of[letter].clone() for letter in order], []
    for letter in order:
        truth = copy.deepcopy(full['data_samples'][0].gt_instances_3d)
        truth = truth if letter in 'AB' else truth[:0]
        samples.append(Det3DDataSample(gt_instances_3d=truth, metainfo=dict(box_type_3d=LiDARInstance3DBoxes)))
    return dict(inputs=dict(points=points), data_samples=samples)


def _predict(model, name, order):
    with torch.no_grad():
        return [sample.pred_instances_3d for sample in model.test_step(_batch(name, order))]


@pytest.mark.parametrize('name', NAMES)
def test_nothing_in_range_means_no_boxes(name):
    model = _build(name).eval()
    alone = {letter: _predict(model, name, letter)[0] for letter in 'AB'}
    assert min(len(found) for found in alone.values()) > 0
    for order in ('x', '0', 'xA', 'A0', 'AxB'):
        for letter, found in zip(order, _predict(model, name, order), strict=True):
            if letter in 'x0':
                assert len(found.bboxes_3d) == len(found.scores_3d) == len(found.labels_3d) == 0
                assert found.bboxes_3d.tensor.shape == (0, _columns(name)[2])
                assert found.scores_3d.dtype == torch.float32 and not found.labels_3d.is_floating_point()
            else:
                torch.testing.assert_close(found.scores_3d, alone[letter].scores_3d, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('name', NAMES)
def test_training_goes_on(name):
    model = _build(name).train()
    for order in ('x', 'A0', 'xA', 'p'):
        model.zero_grad(set_to_none=True)
        before = {key: value.clone() for key, value in model.named_buffers() if 'encoder' in key}
        batch = model.data_preprocessor(_batch(name, order), True)
        total, log = model.parse_losses(model(**batch, mode='loss'))
        total.backward()
        assert all(value.isfinite() for value in log.values()), (order, log)
        for key, parameter in model.named_parameters():
            # Processes wait for the gradient of every weight.
            assert parameter.grad is not None and parameter.grad.isfinite().all(), (order, key)
        if order == 'x':
            assert all(value.equal(before[key]) for key, value in model.named_buffers() if key in before)
        assert all(value.isfinite().all() for value in model.buffers())
    if 'rcnn' in name:
        assert float(model.parse_losses(model(**model.data_preprocessor(_batch(name, 'x'), True), mode='loss'))[0]) == 0


def test_the_loss_does_not_depend_on_where_the_empty_cloud_stands():
    model = _build('second_secfpn_80e_kitti').train()
    totals = []
    for order in ('xA', 'Ax', 'A0'):
        batch = model.data_preprocessor(_batch('second_secfpn_80e_kitti', order), True)
        totals.append(model.parse_losses(copy.deepcopy(model)(**batch, mode='loss'))[0])
    torch.testing.assert_close(totals[0], totals[1])
    torch.testing.assert_close(totals[0], totals[2])


@pytest.mark.parametrize('name', ['point_pillars_secfpn_160e_kitti', 'second_secfpn_80e_kitti'])
def test_fast_half_and_several_views(name):
    plain = _build(name).eval()
    fast = accelerate(copy.deepcopy(plain))
    with torch.autocast('cpu', torch.bfloat16):
        assert [bool(len(found.scores_3d)) for found in _predict(plain, name, 'Ax')] == [True, False]
    for order in ('A', 'x', 'Ax', '0', 'A'):
        assert [bool(len(found.scores_3d)) for found in _predict(fast, name, order)] == [c == 'A' for c in order]
    views = LidarTTAModel(plain)
    for order in ('x', 'Ax'):
        batch, still = _batch(name, order), dict(transformation_3d_flow=[])
        for sample in batch['data_samples']:
            sample.set_metainfo(still)
        both = {key: [value, copy.deepcopy(value)] for key, value in batch.items()}
        with torch.no_grad():
            found = views.test_step(both)
        assert [bool(len(sample.pred_instances_3d.scores_3d)) for sample in found] == [c == 'A' for c in order]


@pytest.mark.parametrize(
    'name, tap, width',
    [
        ('point_pillars_secfpn_160e_kitti', 'voxel_encoder', 64),
        ('second_secfpn_80e_kitti', 'middle_encoder.conv_out', 128),
        ('point_rcnn_160e_kitti', 'neck[fp_features]', 128),
    ],
)
def test_links_of_point_distiller(name, tap, width):
    student, teacher = _build(name), _build(name)
    loss = dict(type=PointDistiller, student_channels=width, teacher_channels=width, num_nodes=20, num_neighbors=4)
    loss['importance'] = 'points' if tap == 'voxel_encoder' else 'feature'
    mode = 'predict' if 'rcnn' in name else 'tensor'
    model = Distiller(student, {'local': dict(student=tap, teacher=tap, loss=loss)}, teacher, teacher_mode=mode).train()
    for order in ('x', 'Ax', 'xA'):
        batch = model.data_preprocessor(_batch(name, order), True)
        total, log = model.parse_losses(model(**batch, mode='loss'))
        total.backward()
        assert all(value.isfinite() for value in log.values()), (order, log)


def test_a_cloud_without_points_is_not_sampled():
    sampler = PointSample(num_points=16, sample_range=40.0)
    for count, wanted in ((0, 0), (1, 16), (20, 16)):
        results = sampler(dict(points=LiDARPoints(torch.rand(count, 4), points_dim=4)))
        assert results['points'].tensor.shape == (wanted, 4)


def test_an_object_in_an_empty_cloud_is_learned_from():
    # An object without points, as after a fault of the sensor: its anchors are positive on a map of zeros.
    model = _build('point_pillars_secfpn_160e_kitti').train()
    batch = _batch('point_pillars_secfpn_160e_kitti', 'x')
    truth = clouds(*DETECTORS['point_pillars_secfpn_160e_kitti'])['data_samples'][0].gt_instances_3d
    batch['data_samples'][0].gt_instances_3d = truth
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    assert float(losses['loss_bbox'][0]) > 0
