"""Every pair of configs/bev_distillation: it builds, its taps exist in both networks, and it takes a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from tiny_rig import tiny_rig

from perception3d.apis.config import load_config
from perception3d.distill import distiller
from perception3d.distill.distiller import Distiller
from perception3d.distill.inherit import _expanded
from perception3d.registry import MODELS

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'bev_distillation'
PAIRS = sorted(path.stem for path in FOLDER.glob('bev_distill_*.py'))
# Share of the student's parameters that it inherits, as the sheet has it for whole copies.
SHARES = {
    'bev_distill_m1_m0_r18_256x704_cbgs20e_nuscenes': 1.0,
    'bev_distill_4frame_1frame_m0_r18_256x704_cbgs20e_nuscenes': 1.0,
    'bev_distill_tiny_64x224_4e_sim': 1.0,
    'bev_distill_tiny_half_96x352_4e_sim': 1.0,
    'bev_distill_former_tiny_1layer_64x224_4e_sim': 1.0,
}


def small(config):
    """The pair with a twentieth of the voxels along each side, and its teacher's random weights."""
    for side in ('student', 'teacher'):
        net = config.model[side]
        for grid in net.get('grids', []):
            grid['shape'] = (max(grid['shape'][0] // 10, 8), max(grid['shape'][1] // 10, 8), grid['shape'][2])
        if 'encoder' in net:
            net.encoder.num_cams = 2
            net.encoder.grid.shape = (8, 8)
    torch.manual_seed(0)
    teacher = config.model.teacher = MODELS.build(config.model.teacher)
    # A teacher that is sure everywhere, so that its boxes count.
    head = teacher.bbox_head
    torch.nn.init.zeros_(head.conv_cls.bias if hasattr(head, 'conv_cls') else head.out_conv.bias)
    return MODELS.build(config.model)


def view(image_hw, frames):
    matrices = tiny_rig(frames, 2, image_hw)
    sample = Det3DDataSample()
    sample.set_metainfo(
        dict(img_from_lidar=matrices, num_frames=frames, box_type_3d=LiDARInstance3DBoxes, lidar2ego=np.eye(4))
    )
    boxes = torch.tensor([[8.0, 1, -1, 4, 2, 1.5, 0.3, 1, 0], [-6.0, -9, -1, 1, 1, 1.7, 2.0, 0, 1]])
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9), labels_3d=torch.tensor([0, 8])
    )
    images = torch.randint(0, 255, (frames * 2, 3, *image_hw), dtype=torch.uint8)
    return {'inputs': {'img': [images]}, 'data_samples': [sample]}


def views(config):
    """A batch for student and teacher, in eighths of the real sizes."""
    name = Path(config.filename).stem
    frames = {'4frame_1frame': (1, 4), 'tiny': (1, 1)}
    mine, theirs = next((value for key, value in frames.items() if key in name), (4, 4))
    batch = view((32, 96), mine)
    batch['teacher'] = view((32, 96) if '4frame' in name else (48, 128), theirs)
    return batch


@pytest.mark.parametrize('name', PAIRS)
def test_a_pair_takes_a_step_on_every_link(name, monkeypatch):
    monkeypatch.setattr(distiller, '_progress', lambda: (50, 100))
    config = load_config(FOLDER / f'{name}.py')
    model = small(config).train()
    assert isinstance(model, Distiller)
    batch = model.data_preprocessor(views(config), training=True)
    losses = model(**batch, mode='loss')
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    for link in config.model.links:
        value = losses[f'distill.{link}.value']
        assert value.isfinite() and value > 0, link
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    report = model.inherit.apply(model.student, model.teacher) if model.inherit else None
    if name in SHARES:
        assert report.share == pytest.approx(SHARES[name])
    model.eval()
    plain = model.data_preprocessor({key: batch for key, batch in views(config).items() if key != 'teacher'})
    assert len(model(**plain, mode='predict')) == 1


def test_m2_inherits_the_necks_of_m4_and_slices_its_encoder():
    model = small(load_config(FOLDER / 'bev_distill_m4_m2_r34_256x704_cbgs20e_nuscenes.py'))
    report = model.inherit.apply(model.student, model.teacher)
    assert {'neck.fpn_convs.0.conv.weight', 'neck_fuse.convs.0.weight'} <= set(report.copied)
    assert {'neck_3d.model.0.conv0.conv.weight', 'neck_3d.model.0.conv1.bn.running_var'} <= set(report.sliced)
    assert all(name in report.own for name in model.student.state_dict() if name.startswith('backbone.'))
    assert 0.05 < report.share < 0.5


def test_half_the_width_of_channels_that_live_answers_as_the_teacher():
    model = small(load_config(FOLDER / 'bev_distill_tiny_half_96x352_4e_sim.py')).eval()
    names = [name for name, _ in model.teacher.named_modules()]
    with torch.no_grad():
        for module in model.teacher.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.weight.uniform_(0.5, 1.5)
        for group in model.inherit.widths:
            for rule in _expanded(group, names):
                for part in map(model.teacher.get_submodule, rule['out']):
                    part.weight[1::2] = 0
                    if part.bias is not None:
                        part.bias[1::2] = 0
    # Running means of dead channels do not count: their gamma is zero.
    report = model.inherit.apply(model.student, model.teacher)
    assert report.share == 1.0 and not report.own
    batch = model.student.data_preprocessor(view((32, 96), 1))
    for mine, theirs in zip(model(**batch), model.teacher(**batch), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert mine.abs().max() > 1e-3
