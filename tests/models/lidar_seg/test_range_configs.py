"""The shipped configs of RangePointNet: sizes, a step on small clouds, and PVD from Cylinder3D between points."""

from __future__ import annotations

import pytest
import torch
from mmdet3d.structures import Det3DDataSample, PointData
from shipped import CONFIGS, config_path

from perception3d.apis.config import load_config
from perception3d.registry import MODELS

# Millions of parameters.
PARAMETERS = {
    'range_point_64x2048_40e_semantickitti': 3.594,
    'range_point_32x1024_40e_nuscenes_lidarseg': 3.593,
    'range_point_tiny_64x512_12e_semantickitti_sim': 0.544,
    'range_point_tiny_64x1024_overfit_sample': 0.544,
}
DISTILLED = {
    'range_point_pvd_64x2048_40e_semantickitti': 'range_point_64x2048_40e_semantickitti',
    'range_point_pvd_tiny_64x512_12e_semantickitti_sim': 'range_point_tiny_64x512_12e_semantickitti_sim',
}


def small_config(name, image_shape):
    options = dict(point_channels=8, stem_channels=4, widths=[4, 8], fused_channels=8)
    return load_config(config_path(name), options | dict(image_shape=image_shape))


def batch(classes, columns):
    """A cloud of 200 points, of which column 4 is a ring of 32."""
    points = torch.rand(200, 5) * 20 - 10
    points[:, 4] = torch.arange(200) % 32
    sample = Det3DDataSample(gt_pts_seg=PointData(pts_semantic_mask=torch.randint(0, classes, (200,))))
    return dict(inputs=dict(points=[points[:, :columns]]), data_samples=[sample])


def test_all_configs_have_the_sizes_that_they_state():
    assert {path.stem for path in (CONFIGS / 'range_point').glob('*.py')} == {*PARAMETERS, *DISTILLED}
    for name, millions in PARAMETERS.items():
        with torch.device('meta'):
            model = MODELS.build(load_config(config_path(name)).model)
        assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(millions, abs=6e-4), name
    for name, student in DISTILLED.items():
        assert load_config(config_path(name)).model.student == load_config(config_path(student)).model


@pytest.mark.parametrize('name', [*PARAMETERS][:2])
def test_a_step(name):
    rings = 'nuscenes' in name
    config = small_config(name, [32 if rings else 16, 32])
    columns = config.train_dataloader.dataset.pipeline[0].use_dim
    assert columns == (5 if rings else 4) == config.test_dataloader.dataset.pipeline[0].use_dim
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    data = model.data_preprocessor(batch(len(config.class_names), columns), True)
    losses = model(**data, mode='loss')
    assert sorted(losses) == ['loss_pixel_ce', 'loss_pixel_lovasz', 'loss_point_ce', 'loss_point_lovasz']
    sum(losses.values()).backward()
    (sample,) = model.eval()(**data, mode='predict')
    assert sample.pred_pts_seg.pts_semantic_mask.shape == (200,)


def test_a_step_of_distillation_between_points(tmp_path):
    config = small_config('range_point_pvd_tiny_64x512_12e_semantickitti_sim', [16, 32]).model
    config.teacher.net.update(width=4, compressed_channels=4, point_channels=16)
    config.teacher.data_preprocessor.partition.grid_shape = [16, 12, 8]
    torch.manual_seed(0)
    torch.save(MODELS.build(config.teacher).state_dict(), tmp_path / 'teacher.pth')
    config.teacher_checkpoint = str(tmp_path / 'teacher.pth')
    # Off in the config, with a switch.
    assert config.links.point_affinity.weight == 0
    config.links.point_affinity.weight = 0.15
    distiller = MODELS.build(config).train()
    distiller.init_weights()
    data = distiller.data_preprocessor(batch(19, 4), True)
    total, log = distiller.parse_losses(distiller(**data, mode='loss'))
    total.backward()
    assert sorted(distiller.links) == ['point_affinity', 'point_output']
    assert all(float(log[f'distill.{link}.value']) > 0 for link in distiller.links)
