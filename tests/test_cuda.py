"""What has a path of its own on a GPU does there what it does on the CPU. All of it is skipped without CUDA."""

from __future__ import annotations

from types import SimpleNamespace

import mmcv.ops
import numpy as np
import pytest
import torch
from camera_rig import REAL_RIG_16X44
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from shipped import config_path
from tiny_lidar import DETECTORS, clouds, shrink
from torch import nn

from perception3d.apis.config import load_config
from perception3d.compat.mmcv_ext import BUILD_COMMAND
from perception3d.distill.losses.point_distiller import PointDistiller
from perception3d.geometry.grid import VoxelGrid
from perception3d.models.fast_bev.view_transform import FeatureRows, LookupViewTransform
from perception3d.models.lidar_det.tta import LidarTTAModel
from perception3d.ops.nms import nms_rotated
from perception3d.registry import MODELS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA')
needs_mmcv = pytest.mark.skipif(
    mmcv.ops.get_compiling_cuda_version() == 'not available',
    reason=f'the ops of mmcv are not compiled with CUDA: {BUILD_COMMAND}',
)


@needs_mmcv
@pytest.mark.parametrize('name', DETECTORS)
def test_a_detector_learns_and_predicts(name):
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


@needs_mmcv
@pytest.mark.parametrize('count', [0, 2])
def test_views_are_joined_and_may_be_without_boxes(count):
    boxes = torch.tensor([[10.0, 2, -1, 4, 2, 1.5, 0.3], [20.0, -5, -1, 4, 2, 1.5, 1.0]], device='cuda')[:count]
    mirrored = LiDARInstance3DBoxes(boxes.clone())
    mirrored.flip('horizontal')
    views = [_sample(boxes), _sample(mirrored.tensor, transformation_3d_flow=['HF'])]
    (merged,) = LidarTTAModel(nn.Identity()).merge_preds([views])
    predicted = merged.pred_instances_3d
    assert len(predicted.scores_3d) == len(predicted.labels_3d) == len(predicted.bboxes_3d) == count
    torch.testing.assert_close(predicted.bboxes_3d.tensor[:, :6], boxes[:, :6])


@needs_mmcv
def test_broken_boxes_are_dropped_as_on_the_cpu():
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
