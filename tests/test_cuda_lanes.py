"""Lane networks and their distillation on a GPU give the losses of the CPU. All tests are skipped without CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lane_batches import lane_batch
from mmengine.structures import LabelData
from shipped import config_path
from torch import nn

from perception3d.apis.config import load_config
from perception3d.distill import distiller
from perception3d.distill.losses.self_attention import NORMS, self_attention_loss
from perception3d.registry import MODELS
from perception3d.structures.lanes import Lanes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA')

NETWORKS = (
    'enet_tiny_56x256_10e_culane_sim',
    'enet_tiny_112x256_10e_tusimple_sim',
    'erfnet_tiny_56x256_10e_culane_sim',
    'lane_resnet_r18_tiny_56x256_10e_culane_sim',
    'scnn_tiny_56x256_10e_culane_sim',
    'lane_agnostic_enet_tiny_104x488_10e_culane_sim',
    'clrnet_r18_tiny_104x488_10e_culane_sim',
    'fm_net_steering_tiny_64x256_12e_culane_sim',
    'lane_sad_enet_tiny_56x256_10e_culane_sim',
    'intra_kd_enet_tiny_56x256_10e_culane_sim',
)


def _batch(config: Any) -> dict[str, Any]:
    """Images of the size of the config, with lane masks, existence, two lanes and a steering angle."""
    dataset = config.train_dataloader.dataset
    (resize,) = [step for step in dataset.get('dataset', dataset).pipeline if 'input_hw' in step]
    batch = lane_batch(tuple(resize.input_hw), len(config.get('class_names') or range(4)))
    for k, sample in enumerate(batch['data_samples']):
        height, width = sample.stored_hw[0]
        ends = np.array([[[0.3, 0.95], [0.4, 0.4]], [[0.7, 0.95], [0.6, 0.4]]]) * [width, height]
        sample.gt_lanes = Lanes(tuple(ends), np.arange(2))
        sample.gt_steering = LabelData(steering_rad=torch.tensor([0.1 * k]))
    return batch


def _model(config: Any) -> nn.Module:
    torch.manual_seed(0)
    settings = config.model.copy()
    if settings.get('teacher'):
        settings.teacher = MODELS.build(settings.teacher)
    model = MODELS.build(settings)
    for part in model.modules():
        # Random numbers of a GPU are others.
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
    return model


@pytest.mark.parametrize('name', NETWORKS)
def test_a_lane_network_trains_as_on_the_cpu_and_predicts(name, monkeypatch):
    # Half of a training is over, so that every link has its weight.
    monkeypatch.setattr(distiller, '_progress', lambda: (50, 100))
    config = load_config(config_path(name))
    results = []
    for device in ('cpu', 'cuda'):
        model = _model(config).to(device).train()
        total, log = model.parse_losses(model(**model.data_preprocessor(_batch(config), True), mode='loss'))
        total.backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]
        assert total.device.type == device and gradients and all(grad.isfinite().all() for grad in gradients)
        results.append({key: torch.as_tensor(value).detach().cpu() for key, value in log.items()})
    torch.testing.assert_close(results[1], results[0], rtol=1e-2, atol=1e-4)
    with torch.no_grad():
        samples = model.eval().test_step(_batch(config))
    assert len(samples) == 2


@pytest.mark.parametrize('norm', NORMS)
def test_attention_maps_equal_those_of_the_cpu(norm):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, channels, 8, 16, generator=generator) for channels in (4, 6))
    results = []
    for device in ('cpu', 'cuda'):
        features = student.to(device).requires_grad_()
        loss = self_attention_loss(features, teacher.to(device), norm=norm, channels='mean')
        (gradient,) = torch.autograd.grad(loss, features)
        results.append((loss.detach().cpu(), gradient.cpu()))
    assert results[0][0] > 0
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)
