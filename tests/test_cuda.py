"""Ops and models on a GPU give the results of the CPU. All tests are skipped without CUDA."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from types import SimpleNamespace

import mmcv.ops
import numpy as np
import pytest
import torch
from camera_rig import REAL_RIG_16X44
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes, PointData
from mmengine.structures import InstanceData
from shipped import config_path
from tiny_lidar import DETECTORS, clouds, shrink
from tiny_rig import intrinsics, tiny_rig
from torch import nn

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.compat.mmcv_ext import BUILD_COMMAND
from perception3d.distill import distiller
from perception3d.distill.losses.point_distiller import PointDistiller
from perception3d.distill.losses.point_voxel import PointAffinityKD, PointOutputKD, VoxelAffinityKD, VoxelOutputKD
from perception3d.geometry import iou
from perception3d.geometry.grid import VoxelGrid
from perception3d.models.crowd.head import DensityHeatmapHead
from perception3d.models.fast_bev.view_transform import FeatureRows, LookupViewTransform
from perception3d.models.lidar_det.tta import LidarTTAModel
from perception3d.models.lidar_seg.range_partition import RangePartition
from perception3d.models.lidar_seg.range_point import RangePointNet
from perception3d.models.lidar_seg.voxels import voxelise
from perception3d.ops import neighbors, points_in_boxes, scatter, segments, voxels
from perception3d.ops.nms import nms_rotated
from perception3d.ops.point_sampling import furthest_point_sample, furthest_point_sample_with_distances
from perception3d.registry import MODELS
from tests.distill.voxel_batches import CLASSES as VOXEL_CLASSES
from tests.distill.voxel_batches import MINORITY, context_of, random_batch
from tests.models.crowd.crowd_parts import RANGE_M as CROWD_RANGE_M
from tests.models.crowd.crowd_parts import people_boxes, sample_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA')
needs_mmcv = pytest.mark.skipif(
    mmcv.ops.get_compiling_cuda_version() == 'not available',
    reason=f'the ops of mmcv are not compiled with CUDA: {BUILD_COMMAND}',
)


@needs_mmcv
@pytest.mark.parametrize('name', DETECTORS)
def test_a_lidar_detector_trains_and_predicts(name):
    features, labels, columns = DETECTORS[name]
    settings = load_config(config_path(name)).model
    sparse = 'second' in name or 'voxel' in name
    if sparse and pytest.importorskip('spconv.cppconstants').CPU_ONLY_BUILD:
        pytest.skip('spconv was built without CUDA')
    shrink(settings, cells=64)
    torch.manual_seed(0)
    model = MODELS.build(settings).cuda().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    batch = model.data_preprocessor(clouds(features, labels, columns), True)
    total, log = model.parse_losses(model(**batch, mode='loss'))
    total.backward()
    assert all(value.is_cuda and value.isfinite() for value in log.values()), log
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    optimizer.step()
    model.eval()
    with torch.no_grad():
        samples = model(**model.data_preprocessor(clouds(features, labels, columns), False), mode='predict')
    for sample in samples:
        predicted = sample.pred_instances_3d
        assert predicted.bboxes_3d.tensor.shape == (len(predicted.scores_3d), columns) and len(predicted.scores_3d) > 0
        assert predicted.bboxes_3d.tensor.isfinite().all() and predicted.scores_3d.isfinite().all()


def test_a_crowd_head_learns_and_finds_people_as_on_the_cpu():
    torch.manual_seed(0)
    parts = dict(channels=8, relation=True, counts=True)
    head = DensityHeatmapHead(8, CROWD_RANGE_M, parts=parts).train()
    features = [torch.randn(2, 8, n, n) for n in (32, 16, 8)]
    samples = [sample_of(people_boxes(14, 1)), sample_of(people_boxes(5, 2), torch.tensor([0, -1, 0, 0, 0]))]
    results = {}
    for device in ('cpu', 'cuda'):
        own = copy.deepcopy(head).to(device)
        given = [x.to(device) for x in features]
        losses = own.loss(given, samples)
        assert all(value.device.type == device for value in losses.values())
        sum(losses.values()).backward()
        boxes = own.eval().predict(given, samples)
        results[device] = (
            torch.stack(list(losses.values())).detach().cpu(),
            torch.cat([p.grad.flatten().cpu() for p in own.parameters()]),
            torch.cat([found.bboxes_3d.tensor.cpu() for found in boxes]),
        )
    for a, b in zip(results['cpu'], results['cuda'], strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3)


def test_point_distiller_equals_the_cpu():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(60, channels, generator=generator) for channels in (8, 16))
    sample = torch.arange(60) // 30
    places = torch.stack([sample, *[torch.arange(60)] * 3], 1).int()
    # Counts that differ, so that the choice of nodes is unique.
    counts = torch.randperm(60, generator=generator) + 1
    torch.manual_seed(0)
    loss = PointDistiller(8, 16, channels=12, num_nodes=20, num_neighbors=6)
    results = []
    for device in ('cpu', 'cuda'):
        inputs = dict(voxels=dict(coors=places.to(device), num_points=counts.to(device)))
        features = student.to(device).requires_grad_()
        value = loss.to(device)(features, teacher.to(device), SimpleNamespace(inputs=inputs, teacher_inputs=inputs))
        (gradient,) = torch.autograd.grad(value, features)
        assert value.device.type == gradient.device.type == device
        results.append((value.detach().cpu(), gradient.cpu()))
    assert results[0][0] > 0
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)


def _sample(boxes, **metainfo):
    count = len(boxes)
    predicted = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes),
        scores_3d=torch.linspace(0.9, 0.5, count, device=boxes.device),
        labels_3d=torch.zeros(count, dtype=torch.long, device=boxes.device),
    )
    return Det3DDataSample(metainfo=metainfo, pred_instances_3d=predicted)


class _Net(nn.Module):
    def test_step(self, data):
        raise RuntimeError('merging asks for no prediction')


@needs_mmcv
def test_a_range_point_network_equals_the_cpu():
    torch.manual_seed(0)
    net = RangePointNet(5, widths=(8, 16), strides=((1, 2), (2, 2)), blocks=(1, 1)).eval()
    points = torch.rand(300, 4) * 20 - 10
    results = []
    for device in ('cpu', 'cuda'):
        voxels = voxelise(RangePartition((16, 64), 60, -60), [points.to(device)])
        outputs = net.to(device)(voxels)
        net.zero_grad()
        outputs.point_logits.square().sum().backward()
        results.append([outputs.point_logits.detach().cpu(), net.compress.weight.grad.clone().cpu()])
    torch.testing.assert_close(results[1], results[0], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize('count', [0, 2])
def test_augmented_views_are_merged_with_and_without_boxes(count):
    boxes = torch.tensor([[10.0, 2, -1, 4, 2, 1.5, 0.3], [20.0, -5, -1, 4, 2, 1.5, 1.0]], device='cuda')[:count]
    mirrored = LiDARInstance3DBoxes(boxes.clone())
    mirrored.flip('horizontal')
    views = [_sample(boxes), _sample(mirrored.tensor, transformation_3d_flow=['HF'])]
    (merged,) = LidarTTAModel(_Net()).merge_preds([views])
    predicted = merged.pred_instances_3d
    assert len(predicted.scores_3d) == len(predicted.labels_3d) == len(predicted.bboxes_3d) == count
    torch.testing.assert_close(predicted.bboxes_3d.tensor[:, :6], boxes[:, :6])


@needs_mmcv
def test_boxes_that_are_not_finite_are_dropped_as_on_the_cpu():
    rng = np.random.default_rng(0)
    bev = np.concatenate([rng.uniform(-5, 5, (40, 2)), rng.uniform(1, 4, (40, 2)), rng.uniform(-3, 3, (40, 1))], 1)
    bev, scores = torch.from_numpy(bev).float(), torch.from_numpy(rng.random(40)).float()
    bev[3, 2], scores[8] = torch.nan, torch.nan
    labels = torch.arange(40) % 2
    kept = nms_rotated(bev.cuda(), scores.cuda(), 0.2, labels.cuda())
    assert kept.tolist() == nms_rotated(bev, scores, 0.2, labels).tolist()


@pytest.mark.parametrize('priority', ['last', 'mean'])
def test_the_view_transformation_of_fast_bev_equals_the_cpu(priority):
    maps = torch.randn(6, 8, 16, 44, generator=torch.Generator().manual_seed(0))
    img_from_lidar = np.asarray(REAL_RIG_16X44)[None, None]
    transform = LookupViewTransform(VoxelGrid((-50, -50, -4, 50, 50, 2), (20, 24, 3)), priority)
    results = []
    for device in ('cpu', 'cuda'):
        features = maps.to(device).requires_grad_()
        lifted = transform([FeatureRows.from_maps(features, 1, 1)], img_from_lidar, (16, 44))
        lifted.square().sum().backward()
        assert lifted.device.type == device
        results.append((lifted.detach().cpu(), features.grad.cpu()))
    assert results[0][1].abs().max() > 0
    # On a GPU the gradients of a pixel are added in any order.
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)


def _on_lattice(*shape, seed=0):
    """Multiples of 1/4 m, whose distances every device computes without rounding."""
    return torch.randint(-12, 13, shape, generator=torch.Generator().manual_seed(seed)) / 4


def _boxes(count, seed=0):
    low, high = torch.tensor([-3.0, -3, -2, 1, 1, 1, -3]), torch.tensor([3.0, 3, 0, 4, 3, 2, 3])
    return low + torch.rand(count, 7, generator=torch.Generator().manual_seed(seed)) * (high - low)


def _normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TABLE = torch.tensor([3, -1, 3, 19, 0], dtype=torch.int32)
LAYER = ([0.5, 0.5, 1.0], [-3.0, -3.0, -3.0, 3.0, 3.0, 3.0])
POINTS, BOXES = _normal(2, 300, 3), torch.stack([_boxes(9, 1), _boxes(9, 2)])
# Each op with a path of its own for CUDA tensors that torch provides, and its tensors.
OPS_OF_TORCH = {
    'gather_rows': (scatter.gather_rows, _normal(20, 8), TABLE),
    'scatter_add_rows': (lambda values, table: scatter.scatter_add_rows(values, table, 20), _normal(5, 8), TABLE),
    'segment_max': (segments.segment_max, _normal(20, 8), torch.tensor([7, 1, 12])),
}
# And those that mmcv provides.
OPS_OF_MMCV = {
    'bev_iou': (iou.bev_iou, _boxes(12)[:, [0, 1, 3, 4, 6]], _boxes(9, 1)[:, [0, 1, 3, 4, 6]]),
    'ball_query': (
        lambda points, centers: neighbors.ball_query(points, centers, 0.5, 1.5, 8),
        _on_lattice(2, 200, 3),
        _on_lattice(2, 20, 3, seed=1),
    ),
    'furthest_point_sample': (lambda points: furthest_point_sample(points, 40), _on_lattice(2, 200, 3)),
    'furthest_point_sample_with_distances': (
        lambda distances: furthest_point_sample_with_distances(distances, 40),
        (_on_lattice(2, 200, 1, 3) - _on_lattice(2, 1, 200, 3)).square().sum(-1),
    ),
    'points_in_boxes_part': (points_in_boxes.points_in_boxes_part, POINTS, BOXES),
    'points_in_boxes_all': (points_in_boxes.points_in_boxes_all, POINTS, BOXES),
    'pool_points_in_boxes': (
        lambda points, features, boxes: points_in_boxes.pool_points_in_boxes(points, features, boxes, 16),
        POINTS,
        _normal(2, 300, 4, seed=3),
        BOXES,
    ),
    'hard_voxelize': (lambda points: voxels.hard_voxelize(points, *LAYER, 4, 60), _normal(500, 4)),
    'dynamic_voxelize': (lambda points: voxels.dynamic_voxelize(points, *LAYER), _normal(500, 4)),
}


@pytest.mark.parametrize('name', [*OPS_OF_TORCH, *(pytest.param(name, marks=needs_mmcv) for name in OPS_OF_MMCV)])
def test_an_op_equals_the_cpu(name):
    op, *tensors = {**OPS_OF_TORCH, **OPS_OF_MMCV}[name]
    results = []
    for device in ('cpu', 'cuda'):
        result = op(*(tensor.to(device) for tensor in tensors))
        result = result if isinstance(result, tuple) else (result,)
        assert all(part.device.type == device for part in result)
        results.append([part.cpu() for part in result])
    assert results[0][0].float().abs().max() > 0
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


# Camera detectors and a step of distillation: sizes of the images (of the teacher too), frames.
CAMERA_MODELS = {
    'fast_bev_tiny_96x352_9e_sim': ([(96, 352)], 1),
    'fast_bev_tiny_4frame_96x352_9e_sim': ([(96, 352)], 4),
    'bev_former_tiny_96x352_9e_sim': ([(96, 352)], 1),
    'bev_distill_tiny_64x224_4e_sim': ([(64, 224), (96, 352)], 1),
}


def _camera_batch(image_hw, frames):
    """A sample of two cameras with a car and a pedestrian, not yet seen by a preprocessor."""
    matrices = tiny_rig(frames, 2, image_hw)
    sample = Det3DDataSample()
    sample.set_metainfo(
        dict(
            img_from_lidar=matrices,
            lidar2cam=np.linalg.inv(np.tile(intrinsics(2, image_hw), (frames, 1, 1))) @ matrices,
            lidar2ego=np.eye(4),
            num_frames=frames,
            box_type_3d=LiDARInstance3DBoxes,
        )
    )
    boxes = torch.tensor([[8.0, 1, -1, 4, 2, 1.5, 0.3, 1, 0], [-6.0, -9, -1, 1, 1, 1.7, 2.0, 0, 1]])
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9), labels_3d=torch.tensor([0, 8])
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (frames * 2, 3, *image_hw), generator=generator, dtype=torch.uint8)
    return dict(inputs=dict(img=[images]), data_samples=[sample])


def _with_two_cameras(settings):
    for part in (settings, settings.get('student', {}), settings.get('teacher', {})):
        if 'encoder' in part:
            part.encoder.num_cams = 2
    return settings


@pytest.mark.parametrize('name', CAMERA_MODELS)
def test_a_camera_model_trains_as_on_the_cpu_and_predicts(name, monkeypatch):
    # Half of a training is over, so that every link has its weight.
    monkeypatch.setattr(distiller, '_progress', lambda: (50, 100))
    (image_hw, *teacher_hw), frames = CAMERA_MODELS[name]
    settings = _with_two_cameras(load_config(config_path(name)).model)
    results = []
    for device in ('cpu', 'cuda'):
        torch.manual_seed(0)
        own = copy.deepcopy(settings)
        if teacher_hw:
            own.teacher = MODELS.build(own.teacher)
        model = MODELS.build(own).to(device).train()
        batch = _camera_batch(image_hw, frames)
        if teacher_hw:
            batch['teacher'] = _camera_batch(teacher_hw[0], frames)
        losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
        total = sum(value for key, value in losses.items() if 'loss' in key)
        total.backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]
        assert total.device.type == device and gradients and all(grad.isfinite().all() for grad in gradients)
        results.append({key: value.detach().cpu() for key, value in losses.items()})
    # Convolutions of a GPU round in other orders, and matches of queries or ties may differ by that.
    torch.testing.assert_close(results[1], results[0], rtol=1e-2, atol=1e-4)
    with torch.no_grad():
        plain = model.eval().data_preprocessor(_camera_batch(image_hw, frames))
        (sample,) = model(**plain, mode='predict')
    assert sample.pred_instances_3d.bboxes_3d.tensor.isfinite().all()


def _points_batch():
    """Two labelled clouds, not yet seen by a preprocessor."""
    generator = torch.Generator().manual_seed(0)
    clouds = [torch.rand(count, 4, generator=generator) * 20 - 10 for count in (300, 200)]
    samples = [Det3DDataSample(metainfo={'lidar_path': f'{k}.bin'}) for k in range(2)]
    for cloud, sample in zip(clouds, samples):
        sample.gt_pts_seg = PointData(pts_semantic_mask=torch.randint(0, 19, (len(cloud),), generator=generator))
    return dict(inputs=dict(points=clouds), data_samples=samples)


def _small_segmentation(name):
    """The model config of a shipped segmentation config, with a coarse grid or image."""
    settings = load_config(config_path(name)).model
    for part in (settings, settings.get('student'), settings.get('teacher')):
        partition = part.data_preprocessor.partition if part and 'data_preprocessor' in part else {}
        if 'grid_shape' in partition:
            partition.grid_shape = [16, 12, 8]
        if 'shape' in partition:
            partition.shape = [16, 64]
    if 'teacher' in settings:
        settings.teacher = MODELS.build(settings.teacher)
        settings.inherit = None
    return settings


SEGMENTORS = {
    'cylinder3d_tiny_half_120x90x16_12e_semantickitti_sim': True,
    'pvd_tiny_half_120x90x16_12e_semantickitti_sim': True,
    'range_point_tiny_64x512_12e_semantickitti_sim': False,
}


@pytest.mark.parametrize('name', SEGMENTORS)
def test_a_segmentor_of_points_trains_as_on_the_cpu_and_predicts(name, monkeypatch):
    # Half of a training is over, so that every link has its weight.
    monkeypatch.setattr(distiller, '_progress', lambda: (50, 100))
    cpu_only = pytest.importorskip('spconv.cppconstants').CPU_ONLY_BUILD
    results = []
    for device in ('cpu', 'cuda'):
        torch.manual_seed(0)
        model = MODELS.build(_small_segmentation(name)).to(device).train()
        batch = model.data_preprocessor(_points_batch(), True)
        if device == 'cuda' and SEGMENTORS[name] and cpu_only:
            with pytest.raises(InputError, match='build for CPUs: run "pip uninstall'):
                model(**batch, mode='loss')
            return
        total, log = model.parse_losses(model(**batch, mode='loss'))
        total.backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]
        assert total.device.type == device and gradients and all(grad.isfinite().all() for grad in gradients)
        results.append({key: torch.as_tensor(value).detach().cpu() for key, value in log.items()})
    torch.testing.assert_close(results[1], results[0], rtol=1e-2, atol=1e-4)
    with torch.no_grad():
        samples = model.eval().test_step(_points_batch())
    assert [len(sample.pred_pts_seg.pts_semantic_mask) for sample in samples] == [300, 200]


PVD_LOSSES = {
    'point output': PointOutputKD(),
    'voxel output': VoxelOutputKD(skip_ignored=True),
    'point affinity': PointAffinityKD(dict(classes=VOXEL_CLASSES, minority=MINORITY, draws=3)),
    'voxel affinity': VoxelAffinityKD(dict(classes=VOXEL_CLASSES, minority=MINORITY, draws=3)),
}


@pytest.mark.parametrize('name', PVD_LOSSES)
def test_a_loss_of_point_to_voxel_distillation_equals_the_cpu(name):
    loss, batch = PVD_LOSSES[name], random_batch()
    # One draw for both devices: a GPU draws other numbers.
    count = len(batch.point_batch if name.startswith('point') else batch.coords)
    student, teacher = _normal(count, 4, seed=1), _normal(count, 4, seed=2)
    results = []
    for device in ('cpu', 'cuda'):
        moved = {f.name: getattr(batch, f.name) for f in fields(batch)}
        moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in moved.items()}
        features = student.to(device).requires_grad_()
        value = loss(features, teacher.to(device), context_of(replace(batch, **moved)))
        (gradient,) = torch.autograd.grad(value, features)
        assert value.device.type == gradient.device.type == device
        results.append((value.detach().cpu(), gradient.cpu()))
    assert results[0][0] > 0
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)
