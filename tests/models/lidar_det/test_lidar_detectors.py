"""Every LiDAR detector learns and predicts on the CPU, in fp32 and under autocast, on a small map."""

from __future__ import annotations

import pytest
import torch
from mmdet3d.structures import LiDARInstance3DBoxes
from shipped import config_path
from tiny_lidar import DETECTORS, clouds, shrink

from perception3d.apis.config import load_config
from perception3d.registry import MODELS


def _build(name):
    settings = load_config(config_path(name)).model
    shrink(settings, cells=64)
    for part in ('backbone', 'pts_backbone'):
        if 'layer_nums' in settings.get(part, {}):
            settings[part].layer_nums = [1] * len(settings[part].layer_nums)
    torch.manual_seed(0)
    # As torch draws weights, scores are near 0.5, so that there are boxes at any threshold of the configs.
    return MODELS.build(settings)


@pytest.mark.parametrize('half', [False, True], ids=['fp32', 'bf16'])
@pytest.mark.parametrize('name', DETECTORS)
def test_a_step_and_a_prediction(name, half):
    features, labels, columns = DETECTORS[name]
    if 'second' in name or 'voxel' in name:
        pytest.importorskip('spconv')
    model = _build(name).train()
    with torch.autocast('cpu', torch.bfloat16, enabled=half):
        batch = model.data_preprocessor(clouds(features, labels, columns), True)
        total, log = model.parse_losses(model(**batch, mode='loss'))
    total.backward()
    assert all(value.isfinite() for value in log.values()), log
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, key
    model.eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=half):
        batch = model.data_preprocessor(clouds(features, labels, columns), False)
        samples = model(**batch, mode='predict')
    assert len(samples) == 2
    for sample in samples:
        found = sample.pred_instances_3d
        assert type(found.bboxes_3d) is LiDARInstance3DBoxes and found.bboxes_3d.tensor.dtype == torch.float32
        assert 0 < len(found.scores_3d) == len(found.labels_3d) == len(found.bboxes_3d)
        assert found.bboxes_3d.tensor.shape[1] == columns and found.bboxes_3d.tensor.isfinite().all()
        assert ((found.scores_3d >= 0) & (found.scores_3d <= 1)).all()
        assert not found.labels_3d.is_floating_point() and 0 <= found.labels_3d.min() <= found.labels_3d.max() <= 9
