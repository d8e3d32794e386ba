"""Every pair of LiDAR segmentation networks takes a step on a small cloud, and its student inherits where it should."""

from __future__ import annotations

import pytest
import torch
from mmdet3d.structures import Det3DDataSample, PointData
from shipped import CONFIGS

from perception3d.apis.config import load_config
from perception3d.registry import MODELS

NAMES = sorted(path.stem for path in (CONFIGS / 'pvd').glob('*.py'))
PVD = ['point_affinity', 'point_output', 'voxel_affinity', 'voxel_output']
COMPARED = {
    'channels': ['channels'],
    'code': ['code'],
    'gradients': ['gradients'],
    'logits': ['logits'],
    'structure': ['logits', 'pairs'],
    'variation': ['variation'],
}


def method(name):
    """The compared method of a config, or ''."""
    return next((method for method in COMPARED if f'_half_{method}_' in name), '')


def distiller_of(name, folder):
    """The distiller of a config, 2 or 4 channels wide per 8 of its own, with a teacher of random weights."""
    config = load_config(CONFIGS / 'pvd' / f'{name}.py').model
    nets = config.student.net, config.teacher.net
    assert nets[1].width == 2 * nets[0].width
    for net, width in zip(nets, (4, 8)):
        share = width / net.width
        net.update(width=width, compressed_channels=int(net.compressed_channels * share))
    for part in (config.student, config.teacher):
        part.data_preprocessor.partition.grid_shape = [16, 12, 8]
    for link in config.links.values():
        if 'supervoxels' in link.loss:
            # Each data set has rare classes of its own; in the built-in world others than in SemanticKITTI.
            minority = link.loss.supervoxels.minority
            rare = 'barrier' if 'lidarseg' in name else 'truck'
            assert (rare in minority) == ('sim' not in name)
        for key, net in zip(('student_channels', 'teacher_channels'), nets):
            if key in link.loss:
                link.loss[key] = 4 * net.width
        if 'autoencoder_steps' in link.loss:
            link.loss.autoencoder_steps = 0
    torch.manual_seed(0)
    torch.save(MODELS.build(config.teacher).state_dict(), folder / 'teacher.pth')
    config.teacher_checkpoint = str(folder / 'teacher.pth')
    return MODELS.build(config).train()


@pytest.mark.parametrize('name', NAMES)
def test_a_step(name, tmp_path):
    distiller = distiller_of(name, tmp_path)
    distiller.init_weights()
    if distiller.inherit is None:
        assert method(name)
    else:
        assert distiller.inherit.apply(distiller.student, distiller.teacher).share == 1.0
    assert sorted(distiller.links) == COMPARED.get(method(name), PVD)
    cloud = torch.rand(200, 4) * 20 - 10
    sample = Det3DDataSample(gt_pts_seg=PointData(pts_semantic_mask=torch.randint(0, 16, (200,))))
    batch = distiller.data_preprocessor(dict(inputs=dict(points=[cloud]), data_samples=[sample]), True)
    # Both networks have one data preprocessor, which makes the voxels once.
    assert 'teacher' not in batch
    total, log = distiller.parse_losses(distiller(**batch, mode='loss'))
    total.backward()
    assert all(float(log[f'distill.{link}.value']) > 0 for link in distiller.links)
    assert not [key for key, parameter in distiller.named_parameters() if parameter.grad is None]


def test_every_compared_method_has_a_config():
    assert {method(name) for name in NAMES} == {'', *COMPARED}
