"""Every pair of configs/bev_distill: it builds, its taps exist in both networks, and it takes a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from general_losses import FEATURES, FREE_OF_CHANNELS, LOGITS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from tiny_rig import intrinsics, tiny_rig

from perception3d.apis.config import load_config
from perception3d.distill import distiller
from perception3d.distill.distiller import Distiller
from perception3d.distill.inherit import _expanded
from perception3d.registry import MODELS

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'bev_distill'
PAIRS = sorted(path.stem for path in FOLDER.glob('bev_distill_*.py'))
# Share of the student's parameters that it inherits, all of them for equal networks.
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
    if 'small_tiny' in config.filename:
        shrink_queries(config.model)
    torch.manual_seed(0)
    teacher = config.model.teacher = MODELS.build(config.model.teacher)
    # A teacher with high scores everywhere, so that its boxes count.
    head = teacher.bbox_head
    for name in ('conv_cls', 'out_conv'):
        if hasattr(head, name):
            torch.nn.init.zeros_(getattr(head, name).bias)
    return MODELS.build(config.model)


def shrink_queries(model):
    """A teacher of 12 x 16 pillars (X, Y) and a student of 6 x 8; of the backbones a ResNet-18 and -50 remain."""
    model.teacher.encoder.grid.shape, model.student.encoder.grid.shape = (12, 16), (6, 8)
    model.teacher.backbone.depth = 50
    model.student.backbone.depth, model.student.neck.in_channels = 18, [512]
    for net in (model.teacher, model.student):
        net.bbox_head.num_query, net.bbox_head.num_layers = 30, 2
    model.inherit.resize = {
        'encoder.bev_embedding.weight': ((16, 12), (8, 6)),
        'encoder.column_embedding.weight': ((12, 1), (6, 1)),
        'encoder.row_embedding.weight': ((16, 1), (8, 1)),
    }
    for name in ('cameras', 'frames'):
        model.links[name].loss.grids = ((8, 6), (16, 12))


def view(image_hw, frames):
    matrices = tiny_rig(frames, 2, image_hw)
    cam_from_lidar = np.linalg.inv(np.tile(intrinsics(2, image_hw), (frames, 1, 1))) @ matrices
    sample = Det3DDataSample()
    sample.set_metainfo(
        dict(
            img_from_lidar=matrices,
            cam_from_lidar=cam_from_lidar,
            num_frames=frames,
            box_type_3d=LiDARInstance3DBoxes,
            ego_from_lidar=np.eye(4),
        )
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
    frames = {'4frame_1frame': (1, 4), 'small_tiny': (3, 3), 'tiny': (1, 1)}
    student_frames, teacher_frames = next((value for key, value in frames.items() if key in name), (4, 4))
    batch = view((32, 96), student_frames)
    batch['teacher'] = view((32, 96) if '4frame' in name else (48, 128), teacher_frames)
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


def test_equal_networks_have_no_loss_on_any_link():
    """The links of M1 to M0 and the general losses, student and teacher the same network on the same images."""
    config = load_config(FOLDER / 'bev_distill_m1_m0_r18_256x704_cbgs20e_nuscenes.py')
    links = config.model.links
    links.fused.adapter.norm = links.increment.loss.adapter.norm = True
    ends = {'neck_3d': FEATURES | FREE_OF_CHANNELS, 'bbox_head[0]': LOGITS}
    for end, losses in ends.items():
        for loss in dict.fromkeys(settings['type'] for settings in losses.values()):
            links[loss.__name__] = dict(student=end, teacher=end, loss=dict(type=loss))
    for link in links.values():
        link.update(match=None, weight=1.0, ramp=0, decay_start=None, decay_to=0.0, every=1)
    model = small(config)
    model.student.load_state_dict(model.teacher.state_dict())
    # Running statistics as those of the teacher, and adapters that standardise and do nothing else.
    model.student.eval()
    for adapter in (model.links['fused'].adapter, model.links['increment'].loss.adapter):
        torch.nn.init.dirac_(adapter.conv.weight)
        adapter.norm.eps = 1e-6
    batches = [view((32, 96), 4), view((32, 96), 4)]
    batch = {'inputs': {'img': [b['inputs']['img'][0] for b in batches]}}
    batch['data_samples'] = [b['data_samples'][0] for b in batches]
    losses = model.loss(**{**model.student.data_preprocessor(batch), 'teacher': None})
    values = {name: float(losses[f'distill.{name}.value']) for name in model.links}
    assert len(values) == 17
    for name, value in values.items():
        assert abs(value) < 1e-5, (name, value)
    # A different student has a loss on all links.
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
    losses = model.loss(**{**model.student.data_preprocessor(batch), 'teacher': None})
    for name, value in values.items():
        assert losses[f'distill.{name}.value'] > max(100 * abs(value), 1e-12), name


def test_different_grids_are_resized_where_a_config_sets_it():
    """The configs with different grids have the setting, those with equal grids do not."""
    said = {}
    for name in PAIRS:
        links = load_config(FOLDER / f'{name}.py').model.links
        said[name] = {key for key, link in links.items() if {'resample', 'grids'} & link.loss.keys()}
    wanted = {
        'bev_distill_m4_m2_r34_256x704_cbgs20e_nuscenes': {'fused', 'frames', 'increment', 'saliency', 'classes'},
        'bev_distill_former_small_tiny_r50_450x800_24e_nuscenes': {'fused', 'cameras', 'frames'},
    }
    assert said == {name: wanted.get(name, set()) for name in PAIRS}


def test_the_tiny_transformer_begins_with_the_queries_of_the_small_one_at_their_places():
    model = small(load_config(FOLDER / 'bev_distill_former_small_tiny_r50_450x800_24e_nuscenes.py'))
    with torch.no_grad():
        x, y = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing='ij')
        # Queries run over x fastest.
        model.teacher.encoder.bev_embedding.weight[:, 0] = (100 * y + x).T.flatten()
    report = model.inherit.apply(model.student, model.teacher)
    assert len(report.resized) == 3 and {'bbox_head.query_embedding.weight'} & set(report.copied)
    grid = model.student.encoder.bev_embedding.weight[:, 0].detach().view(8, 6)
    # Away from the border a cell has the mean of four.
    wanted = 100 * (2 * torch.arange(8.0) + 0.5)[:, None] + 2 * torch.arange(6.0) + 0.5
    torch.testing.assert_close(grid[1:-1, 1:-1], wanted[1:-1, 1:-1], atol=0.5, rtol=0)
    assert all(name in report.own for name in model.student.state_dict() if name.startswith('backbone.'))


def test_m2_inherits_the_necks_of_m4_and_slices_its_encoder():
    model = small(load_config(FOLDER / 'bev_distill_m4_m2_r34_256x704_cbgs20e_nuscenes.py'))
    report = model.inherit.apply(model.student, model.teacher)
    assert {'neck.fpn_convs.0.conv.weight', 'neck_fuse.convs.0.weight'} <= set(report.copied)
    assert {'neck_3d.model.0.conv0.conv.weight', 'neck_3d.model.0.conv1.bn.running_var'} <= set(report.sliced)
    assert all(name in report.own for name in model.student.state_dict() if name.startswith('backbone.'))
    assert 0.05 < report.share < 0.5


def test_a_student_with_all_channels_that_are_not_zero_predicts_as_the_teacher():
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
    for output, wanted in zip(model(**batch), model.teacher(**batch), strict=True):
        torch.testing.assert_close(output, wanted, rtol=1e-4, atol=1e-4)
    assert output.abs().max() > 1e-3
