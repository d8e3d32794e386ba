"""Distillation between two Cylinder3D networks of different width: all links, and weights that are inherited."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from mmdet3d.structures import Det3DDataSample, PointData
from mmengine.config import Config
from shipped import CONFIGS

from perception3d.checks import InputError
from perception3d.distill.distiller import Distiller
from perception3d.distill.inherit import WeightInheritance
from perception3d.distill.losses.supervoxels import build_sampler
from perception3d.engine.agreement import check_runner
from perception3d.formats.semantickitti.files import CLASSES
from perception3d.models.lidar_seg.cylinder3d import Cylinder3D
from perception3d.models.lidar_seg.losses import WeightedCrossEntropy
from perception3d.models.lidar_seg.preprocessor import PointSegPreprocessor
from perception3d.models.lidar_seg.range_partition import RangePartition
from perception3d.models.lidar_seg.range_point import RangePointNet
from perception3d.models.lidar_seg.segmentor import PointSegmentor
from perception3d.models.lidar_seg.voxels import CylinderPartition

BASES = (
    'point_voxel',
    'voxel_channels',
    'voxel_code',
    'voxel_gradients',
    'voxel_logits',
    'voxel_structure',
    'voxel_variation',
)


def base(name):
    return Config.fromfile(CONFIGS / '_base_' / 'distill' / f'{name}.py')


def segmentor(width, seed):
    """A small Cylinder3D."""
    torch.manual_seed(seed)
    grid = dict(type=CylinderPartition, grid_shape=(16, 12, 8), low=(0, -math.pi, -3), high=(10, math.pi, 2))
    return PointSegmentor(
        net=dict(type=Cylinder3D, num_classes=4, width=width, point_channels=2 * width, compressed_channels=2 * width),
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


def links():
    """The links of all bases, by base and name, with the channels of the small pair."""
    links = {f'{name}_{key}': link for name in BASES for key, link in base(name).links.to_dict().items()}
    for link in links.values():
        if 'student_channels' in link['loss']:
            link['loss'] |= dict(student_channels=16, teacher_channels=32)
        if 'autoencoder_steps' in link['loss']:
            link['loss'] |= dict(channels=8, autoencoder_steps=0)
    return links


def test_every_link_of_a_pair_trains_the_student_and_shares_its_backward_pass() -> None:
    distiller = Distiller(segmentor(4, 0), links(), teacher=segmentor(8, 1)).train()
    backward = []
    distiller.student.net.compress[0].weight.register_hook(lambda _: backward.append(1))
    data = distiller.data_preprocessor(batch(), True)
    losses = distiller(**data, mode='loss')
    assert not backward  # the gradient of the task loss stops at the tap
    total, log = distiller.parse_losses(losses)
    total.backward()
    assert len(backward) == 1
    for name in distiller.links:
        assert float(log[f'distill.{name}.value']) > 0, name
    without = [key for key, parameter in distiller.named_parameters() if parameter.grad is None]
    assert not without, without
    assert all(parameter.grad is None for parameter in distiller.teacher.parameters())


def test_classes_of_the_sampler_are_those_of_the_data() -> None:
    distiller = Distiller(segmentor(4, 0), links(), teacher=segmentor(8, 1))
    named = {name for name, expected in distiller.expected_by_links().items() if expected.class_names}
    assert named == {'point_voxel_point_affinity', 'point_voxel_voxel_affinity', 'voxel_code_code'}
    # The number of classes is that of the student; the links name the 19 of SemanticKITTI.
    distiller.student.net.num_classes = len(CLASSES)

    def check(classes):
        loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes))))
        check_runner(SimpleNamespace(model=distiller, built_loops=dict(train=loop)))

    check(CLASSES)
    with pytest.raises(
        InputError,
        match=r"link 'point_voxel_point_affinity': supervoxels\.classes name the classes car.* traffic-sign, c",
    ):
        check((*CLASSES[1:], CLASSES[0]))
    distiller.student.net.num_classes = 4
    with pytest.raises(InputError, match=r'supervoxels\.classes .* has car, bicycle, motorcycle, truck: both must be'):
        check(CLASSES[:4])


@pytest.fixture(scope='module')
def widths():
    return base('cylinder_widths').cylinder_widths


def test_points_of_a_student_on_range_images_are_compared_in_supervoxels_of_its_teacher() -> None:
    torch.manual_seed(0)
    small = dict(widths=(8, 16), strides=((1, 2), (2, 2)), blocks=(1, 1), point_channels=16, stem_channels=8, kernel=3)
    student = PointSegmentor(
        net=dict(type=RangePointNet, num_classes=4, **small),
        losses=dict(point=dict(of='point', type=WeightedCrossEntropy)),
        data_preprocessor=dict(
            type=PointSegPreprocessor, partition=dict(type=RangePartition, shape=(8, 32), up_deg=30, down_deg=-60)
        ),
        predict_from='point',
    )
    distiller = Distiller(student, base('points_alone').links.to_dict(), teacher=segmentor(4, 1)).train()
    losses = distiller(**distiller.data_preprocessor(batch(), True), mode='loss')
    for name in ('point_output', 'point_affinity'):
        distiller.zero_grad()
        losses[f'distill.{name}.loss'].backward(retain_graph=True)
        assert any(parameter.grad.any() for parameter in student.net.parameters() if parameter.grad is not None), name


def test_minority_classes_are_those_of_less_than_one_percent() -> None:
    config = base('supervoxels')
    sampler = build_sampler(config.supervoxels)
    assert sampler.classes == CLASSES and sum(config.class_shares.values()) == pytest.approx(0.9685, abs=0.005)
    common = {'car', 'road', 'parking', 'sidewalk', 'building', 'fence', 'vegetation', 'terrain'}
    assert set(sampler.minority) == set(CLASSES) - common


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
            assert wanted.abs().max() > 0.1 and output.shape[1] <= wanted.shape[1]
            if name.endswith('logits'):
                torch.testing.assert_close(output, wanted, rtol=1e-4, atol=1e-4)


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
