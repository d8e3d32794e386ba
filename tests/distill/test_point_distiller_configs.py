"""Every pair of LiDAR detectors takes a step on small inputs, with gradients for the student alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from perception3d.apis.config import load_config
from perception3d.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'point_distiller'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py'))


def _shrink(model, prefix):
    """A sixteenth of the map: the channels, which is what links are about, stay."""
    if 'voxel_layer' not in model.data_preprocessor:
        model.backbone.num_points = (256, 64, 32, 16)
        model.train_cfg.rpn.rpn_proposal.nms_post = 16
        model.train_cfg.rcnn.sampler.num = 8
        model.roi_head.bbox_roi_extractor.roi_layer.num_sampled_points = 32
        model.roi_head.bbox_head.num_points = (8, 4, -1)
        return
    layer, encoder = model.data_preprocessor.voxel_layer, model[f'{prefix}voxel_encoder']
    size = layer.voxel_size
    cells = 128 if 'output_shape' in model[f'{prefix}middle_encoder'] else 256
    span = [0, -size[1] * cells / 2, -3, size[0] * cells, size[1] * cells / 2, 1]
    if prefix:
        span[2], span[5] = -5, 3
    layer.update(point_cloud_range=span, max_voxels=(2000, 2000))
    if 'point_cloud_range' in encoder:
        encoder.point_cloud_range = span
    if 'output_shape' in model[f'{prefix}middle_encoder']:
        model[f'{prefix}middle_encoder'].output_shape = [cells, cells]
    else:
        model[f'{prefix}middle_encoder'].sparse_shape = [41, cells, cells]


def _batch(features, label, size):
    generator = torch.Generator().manual_seed(0)
    inputs, samples = dict(points=[]), []
    for _ in range(2):
        low, high = torch.tensor([0.0, -4.0, -2.0]), torch.tensor([10.0, 4.0, 0.0])
        places = low + torch.rand(1500, 3, generator=generator) * (high - low)
        inputs['points'].append(torch.cat([places, torch.rand(1500, features - 3, generator=generator)], 1))
        box = torch.zeros(1, size)
        box[0, :7] = torch.tensor([5.0, 1.0, -1.7, 3.9, 1.6, 1.5, 0.3])
        truth = InstanceData(bboxes_3d=LiDARInstance3DBoxes(box, box_dim=size), labels_3d=torch.tensor([label]))
        samples.append(Det3DDataSample(gt_instances_3d=truth, metainfo=dict(box_type_3d=LiDARInstance3DBoxes)))
    return dict(inputs=inputs, data_samples=samples)


@pytest.mark.parametrize('name', NAMES)
def test_a_step(name, tmp_path):
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', 500)
    hub.update_info('max_iters', 1000)
    config = load_config(CONFIGS / f'{name}.py')
    nuscenes = 'nuscenes' in name
    for part in ('student', 'teacher'):
        _shrink(config.model[part], 'pts_' if nuscenes else '')
    for link in config.model.links.values():
        for key, small in (('num_nodes', 64), ('num_neighbors', 8)):
            if key in link.loss:
                link.loss[key] = small
    torch.manual_seed(0)
    teacher = MODELS.build(config.model.teacher)
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    config.model.teacher_checkpoint = str(tmp_path / 'teacher.pth')
    distiller = MODELS.build(config.model)
    distiller.init_weights()
    distiller.train()
    batch = distiller.data_preprocessor(_batch(4, 2 if not nuscenes else 0, 9 if nuscenes else 7), True)
    losses = distiller(**batch, mode='loss')
    total, log = distiller.parse_losses(losses)
    total.backward()
    for link in config.model.links:
        assert float(log[f'distill.{link}.value']) > 0, link
    without = [key for key, parameter in distiller.named_parameters() if parameter.grad is None]
    assert not without, without
    assert not any('teacher' in key for key in distiller.state_dict())
    if 'sparse_kd' in name:
        assert distiller.inherit.apply(distiller.student, teacher).share == 1.0
