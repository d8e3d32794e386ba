"""Distillation between two Cylinder3D networks of different width: all links, and weights that are inherited."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet3d.structures import Det3DDataSample, PointData
from mmengine.config import Config
from shipped import CONFIGS

from perception3d.distill.distiller import Distiller
from perception3d.distill.inherit import WeightInheritance
from perception3d.distill.losses.gradient_weighted import GradientWeightedKD
from perception3d.distill.losses.intra_class import IntraClassKD
from perception3d.distill.losses.knowledge_adaptation import KnowledgeAdaptationKD
from perception3d.distill.losses.logits import LogitKL
from perception3d.distill.losses.point_voxel import PointAffinityKD, PointOutputKD, VoxelAffinityKD, VoxelOutputKD
from perception3d.distill.losses.row_channel_wise import RowChannelWiseKD
from perception3d.distill.losses.supervoxel_pairs import SupervoxelPairKD
from perception3d.models.lidar_seg.cylinder3d import Cylinder3D
from perception3d.models.lidar_seg.losses import WeightedCrossEntropy
from perception3d.models.lidar_seg.preprocessor import PointSegPreprocessor
from perception3d.models.lidar_seg.segmentor import PointSegmentor
from perception3d.models.lidar_seg.voxels import CylinderPartition

NAMES = ('road', 'car', 'person', 'pole')
DRAWN = dict(classes=NAMES, minority=NAMES[2:], num_points=32, num_voxels=16)


def segmentor(width, seed):
    """A small Cylinder3D; its point network has the same width in all."""
    torch.manual_seed(seed)
    grid = dict(type=CylinderPartition, grid_shape=(16, 12, 8), low=(0, -math.pi, -3), high=(10, math.pi, 2))
    return PointSegmentor(
        net=dict(type=Cylinder3D, num_classes=4, width=width, point_channels=16, compressed_channels=2 * width),
        losses={of: dict(of=of, type=WeightedCrossEntropy) for of in ('voxel', 'point')},
        data_preprocessor=dict(type=PointSegPreprocessor, partition=grid),
    )


def batch():
    """Two clouds with labels, as a data loader gives them."""
    generator = torch.Generator().manual_seed(0)
    clouds = [torch.rand(count, 4, generator=generator) * 10 - 5 for count in (200, 120)]
    samples = []
    for cloud in clouds:
        sample = Det3DDataSample(gt_pts_seg=PointData())
        sample.gt_pts_seg.pts_semantic_mask = torch.randint(0, 4, (len(cloud),), generator=generator)
        samples.append(sample)
    return dict(inputs=dict(points=clouds), data_samples=samples)


def link(tap, **loss):
    return dict(student=tap, teacher=tap, loss=loss)


LINKS = dict(
    point_output=link('point_logits', type=PointOutputKD),
    voxel_output=link('voxel_logits', type=VoxelOutputKD),
    point_affinity=link('point_features', type=PointAffinityKD, supervoxels=DRAWN),
    voxel_affinity=link('voxel_features', type=VoxelAffinityKD, supervoxels=DRAWN),
    logits=link('voxel_logits', type=LogitKL),
    channels=link('voxel_logits', type=RowChannelWiseKD),
    variation=link('voxel_features', type=IntraClassKD),
    pairs=link('voxel_features', type=SupervoxelPairKD),
    code=link(
        'voxel_features',
        type=KnowledgeAdaptationKD,
        student_channels=16,
        teacher_channels=32,
        channels=8,
        supervoxels=DRAWN,
    ),
    gradient=link('voxel_features', type=GradientWeightedKD, student_channels=16, teacher_channels=32),
)


def test_every_link_of_a_pair_trains_the_student_and_shares_its_backward_pass() -> None:
    distiller = Distiller(segmentor(4, 0), LINKS, teacher=segmentor(8, 1)).train()
    backward = []
    distiller.student.net.compress[0].weight.register_hook(lambda _: backward.append(1))
    data = distiller.data_preprocessor(batch(), True)
    losses = distiller(**data, mode='loss')
    assert not backward  # the gradient of the task loss stops at the tap
    total, log = distiller.parse_losses(losses)
    total.backward()
    assert len(backward) == 1
    for name in LINKS:
        assert float(log[f'distill.{name}.value']) > 0, name
    without = [key for key, parameter in distiller.named_parameters() if parameter.grad is None]
    assert not without, without
    assert all(parameter.grad is None for parameter in distiller.teacher.parameters())


@pytest.fixture(scope='module')
def widths():
    return Config.fromfile(CONFIGS / '_base_' / 'distill' / 'cylinder_widths.py').cylinder_widths


def test_a_narrower_cylinder3d_inherits_the_channels_that_are_in_use(widths) -> None:
    teacher, student = segmentor(8, 1).eval(), segmentor(4, 0).eval()
    generator = torch.Generator().manual_seed(2)
    modules = dict(teacher.named_modules())
    with torch.no_grad():
        for module in modules.values():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)
        for group in _expanded(widths, modules):
            layers = [modules[name] for name in group['out']]
            dead = torch.randperm(len(layers[0].weight), generator=generator)[: len(layers[0].weight) // 2]
            for layer in layers:
                layer.weight[dead] = 0.0
                if getattr(layer, 'bias', None) is not None:
                    layer.bias[dead] = 0.0
    report = WeightInheritance(widths=widths).apply(student, teacher)
    assert report.share == 1.0 and not report.own
    voxels = student.data_preprocessor(batch(), False)['inputs']
    with torch.no_grad():
        for name, wanted in vars(teacher(voxels)).items():
            output = getattr(student(voxels), name)
            if name != 'voxel_features':
                assert wanted.abs().max() > 0.1
                torch.testing.assert_close(output, wanted, rtol=1e-4, atol=1e-4)
            else:
                assert output.shape[1] == 16 and wanted.shape[1] == 32


def _expanded(widths, modules):
    """The sets of channels with names written out: {k} is a level or block, {branch} first or second."""
    for group in widths:
        names = group['out'][0]
        written = {
            tuple(name.format(k=k, branch=branch) for name in group['out'])
            for k in range(4)
            for branch in ('first', 'second')
        }
        assert all(name in modules for out in written for name in out), names
        yield from (dict(out=out) for out in sorted(written))
