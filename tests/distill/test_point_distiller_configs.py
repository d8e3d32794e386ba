"""Every pair of LiDAR detectors takes a step on small inputs, with gradients for the student alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub
from tiny_lidar import clouds, shrink

from perception3d.apis.config import load_config
from perception3d.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'point_distiller'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py'))


def _pair(name, folder, teacher_bias=None):
    """The distiller of a config at half of its training, small, with a teacher of random weights; and its batch."""
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', 500)
    hub.update_info('max_iters', 1000)
    config = load_config(CONFIGS / f'{name}.py')
    nuscenes = 'nuscenes' in name
    for part in ('student', 'teacher'):
        shrink(config.model[part])
    for link in config.model.links.values():
        for key, small in (('num_nodes', 64), ('num_neighbors', 8)):
            if key in link.loss:
                link.loss[key] = small
    torch.manual_seed(0)
    teacher = MODELS.build(config.model.teacher)
    if teacher_bias is not None:
        torch.nn.init.constant_(teacher.bbox_head.conv_cls.bias, teacher_bias)
    torch.save(teacher.state_dict(), folder / 'teacher.pth')
    config.model.teacher_checkpoint = str(folder / 'teacher.pth')
    distiller = MODELS.build(config.model)
    distiller.init_weights()
    distiller.train()
    batch = clouds(4, [0 if nuscenes else 2], 9 if nuscenes else 7)
    return distiller, distiller.data_preprocessor(batch, True)


@pytest.mark.parametrize('name', NAMES)
def test_a_step(name, tmp_path):
    distiller, batch = _pair(name, tmp_path)
    losses = distiller(**batch, mode='loss')
    total, log = distiller.parse_losses(losses)
    total.backward()
    for link in distiller.links:
        assert float(log[f'distill.{link}.value']) > 0, link
    without = [key for key, parameter in distiller.named_parameters() if parameter.grad is None]
    assert not without, without
    assert not any('teacher' in key for key in distiller.state_dict())
    if 'sparse_kd' in name:
        assert distiller.inherit.apply(distiller.student, distiller.teacher).share == 1.0


@pytest.mark.parametrize('name', [name for name in NAMES if 'sparse_kd' in name])
@pytest.mark.parametrize('confident', [True, False])
def test_confident_boxes_of_the_teacher_join_the_ground_truth(name, confident, tmp_path):
    # sigmoid(3) = 0.95 is above the threshold, sigmoid(-1) = 0.27 is not.
    distiller, batch = _pair(name, tmp_path, teacher_bias=3.0 if confident else -1.0)
    given = []
    distiller.student.register_forward_pre_hook(lambda _, arguments: given.extend(arguments[1]))
    losses = distiller(**batch, mode='loss')
    total, _ = distiller.parse_losses(losses)
    assert torch.isfinite(total)
    assert len(given) == 2
    for labelled, sample in zip(given, batch['data_samples'], strict=True):
        joined, annotated = labelled.gt_instances_3d.bboxes_3d.tensor, sample.gt_instances_3d.bboxes_3d.tensor
        assert (len(joined) > len(annotated)) == confident
        assert torch.equal(joined[-len(annotated) :], annotated)
