from __future__ import annotations

import copy

import pytest
import torch
from mmdet3d.models.middle_encoders import PointPillarsScatter
from mmdet3d.models.voxel_encoders import PillarFeatureNet

from perception3d.models.lidar_det.pillars import CompactPillarFeatureNet, RowPillarsScatter

GRID = dict(voxel_size=(0.5, 0.5, 4), point_cloud_range=(0, -4, -3, 8, 4, 1))


def _pillars(seed=0, count=60, room=8):
    torch.manual_seed(seed)
    num_points = torch.randint(1, room + 1, (count,))
    num_points[:3] = room
    features = torch.randn(count, room, 4) * (torch.arange(room) < num_points[:, None])[..., None]
    cells = torch.randperm(16 * 16)[:count]
    batch = (torch.arange(count) >= count // 2).long()
    return features, num_points, torch.stack([batch, torch.zeros(count).long(), cells // 16, cells % 16], 1).int()


def _pair(**kwargs):
    torch.manual_seed(1)
    theirs = PillarFeatureNet(in_channels=4, feat_channels=(6,), **GRID, **kwargs)
    # Negative scales turn a maximum into a minimum unless the order of the steps is right.
    torch.nn.init.uniform_(theirs.pfn_layers[0].norm.weight, -1, 1)
    torch.nn.init.normal_(theirs.pfn_layers[0].norm.bias)
    ours = CompactPillarFeatureNet(in_channels=4, feat_channels=(6,), **GRID, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize('legacy', [True, False])
@pytest.mark.parametrize('distance', [True, False])
def test_training_step_and_inference_equal_mmdet3d(legacy, distance):
    theirs, ours = _pair(legacy=legacy, with_distance=distance)
    weights = torch.randn(60, 6)
    for seed in range(2):
        for net in (theirs, ours):
            features, num_points, coors = _pillars(seed)
            (net(features, num_points, coors) * weights).sum().backward()
    for (name, a), (_, b) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-4), name
    for (name, a), (_, b) in zip(theirs.named_buffers(), ours.named_buffers(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6), name
    theirs.eval(), ours.eval()
    assert torch.allclose(theirs(*_pillars(5)), ours(*_pillars(5)), atol=1e-5)


def test_points_are_left_as_they_are():
    features, num_points, coors = _pillars()
    before = features.clone()
    _pair(legacy=True)[1](features, num_points, coors)
    assert torch.equal(features, before)


def test_several_layers_take_the_code_of_mmdet3d():
    net = CompactPillarFeatureNet(in_channels=4, feat_channels=(6, 8), **GRID)
    assert net(*_pillars()).shape == (60, 8)


def test_it_computes_in_float32_under_autocast():
    _, ours = _pair()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert ours(*_pillars()).dtype == torch.float32


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('batch', [None, 2, 3])
def test_the_map_and_its_gradient_equal_mmdet3d(training, batch):
    features, _, coors = _pillars()
    coors = coors.clone()
    if batch is None:
        coors[:, 0] = 0
    rows = torch.randn(len(features), 5)
    results = []
    for kind in (PointPillarsScatter, RowPillarsScatter):
        leaf = rows.clone().requires_grad_(training)
        canvas = kind(5, [16, 16]).train(training)(leaf, coors, batch)
        if training:
            (canvas * torch.arange(256.0).view(16, 16)).sum().backward()
        results.append((canvas.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert not training or torch.equal(results[0][1], results[1][1])


def test_a_copy_of_the_encoder_has_its_own_statistics():
    _, ours = _pair()
    twin = copy.deepcopy(ours)
    ours(*_pillars())
    assert not torch.equal(ours.pfn_layers[0].norm.running_mean, twin.pfn_layers[0].norm.running_mean)
