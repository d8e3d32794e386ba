"""MinkUNet18 and SPVCNN on cubes: against dense convolutions, slow interpolation, and trained on scans."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.lidar_seg.mink_unet import MinkUNet, ResidualBlock
from perception3d.models.lidar_seg.spvcnn import SPVCNN
from perception3d.models.lidar_seg.voxels import CubePartition, CylinderPartition, voxelise
from perception3d.ops.devoxelise import VoxelTable, trilinear

SMALL = dict(voxel_size_m=0.5, low=(-4, -4, -2), high=(4, 4, 2))


def _cloud(count=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 4, generator=generator) * torch.tensor([8.0, 8, 4, 1]) - torch.tensor([4.0, 4, 2, 0])


def _net(kind, **settings):
    torch.manual_seed(0)
    net = kind(5, channel_ratio=0.125, **settings)
    # Averages that are not 0 and 1, so that a batch norm in a wrong place is seen.
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


def test_a_point_lies_in_the_cube_of_its_nearest_centre():
    partition = CubePartition(**SMALL)
    assert partition.grid_shape == (17, 17, 9)
    points = torch.tensor([[0.2, -0.26, 0.0, 0.7], [-4.2, 3.8, 1.9, 0.1], [4.6, 0.0, -9.0, 0.2]])
    cells, features = partition.cells_of(points)
    assert cells.tolist() == [[8, 7, 4], [0, 16, 8], [16, 8, 0]]
    torch.testing.assert_close(features[0], torch.tensor([0.2, -0.26, 0.0, 0.7, 0.4, 0.48, 0.0]))
    assert partition.is_outside(points).tolist() == [False, False, True]
    edges = torch.tensor([[1.75, 1.75], [1.25, 1.25]])
    distances = partition.outer_distance_m(
        torch.tensor([[8 + 3, 8 - 3, 0], [8 - 2, 8 + 2, 5]]), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    )
    torch.testing.assert_close(distances, edges.norm(dim=1))
    with pytest.raises(InputError, match='voxel_size_m is 0'):
        CubePartition(voxel_size_m=0)
    with pytest.raises(InputError, match='columns'):
        partition.cells_of(points[:, :3])


def test_interpolation_is_that_of_a_slow_loop():
    generator = torch.Generator().manual_seed(1)
    shape = (5, 4, 3)
    active = torch.randperm(2 * 60, generator=generator)[:50]
    coords = torch.stack([active // 60, active // 12 % 5, active // 3 % 4, active % 3], 1)
    features = torch.randn(50, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    positions = torch.rand(40, 3, generator=generator, dtype=torch.float64) * torch.tensor([6.0, 5, 4]) - 1
    batch = torch.randint(0, 2, (40,), generator=generator)
    found = trilinear(VoxelTable(coords.int(), shape), batch, positions)(features)
    at = {tuple(row): k for k, row in enumerate(coords.tolist())}
    expected = []
    for sample, position in zip(batch.tolist(), positions):
        total, sums = 0.0, torch.zeros(3, dtype=torch.float64)
        for corner in np.ndindex(2, 2, 2):
            cell = torch.floor(position) + torch.tensor(corner)
            row = at.get((sample, *(int(v) for v in cell)))
            if row is not None:
                weight = (1 - (position - cell).abs()).prod()
                total, sums = total + weight, sums + weight * features[row]
        expected.append(sums / total if total else sums)
    torch.testing.assert_close(found, torch.stack(expected))
    (given,) = torch.autograd.grad((found * positions).sum(), features)
    (wanted,) = torch.autograd.grad((torch.stack(expected) * positions).sum(), features)
    torch.testing.assert_close(given, wanted)


def _dense_norm(norm, dense, active):
    rows = dense.permute(0, 2, 3, 4, 1)
    return norm(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape).permute(0, 4, 1, 2, 3) * active


def _dense_conv(block, dense, active):
    weight = block.conv.weight.permute(0, 4, 1, 2, 3)
    out = _dense_norm(block.norm, F.conv3d(dense, weight, padding=1), active)
    return out.relu() if block.relu else out


def _dense_block(block, dense, active):
    if not isinstance(block, ResidualBlock):
        return _dense_conv(block, dense, active)
    short = dense
    if isinstance(block.shortcut, nn.Sequential):
        linear, norm = block.shortcut
        short = _dense_norm(norm, F.conv3d(dense, linear.weight[..., None, None, None]), active)
    return (_dense_conv(block.second, _dense_conv(block.first, dense, active), active) + short).relu()


def _dense_net(net, dense, active):
    """The U-Net by dense convolutions, whose outputs are cleared where there is no voxel."""
    for conv in net.unet.stem:
        dense = _dense_conv(conv, dense, active)
    skips = []
    for down, *blocks in net.unet.down:
        skips.append((dense, active))
        active = F.max_pool3d(active, 2)
        dense = F.conv3d(dense, down.conv.weight.permute(0, 4, 1, 2, 3), stride=2)
        dense = _dense_norm(down.norm, dense, active).relu()
        for block in blocks:
            dense = _dense_block(block, dense, active)
    for up, merge in zip(net.unet.up, net.unet.merge):
        skip, active = skips.pop()
        dense = F.conv_transpose3d(dense, up.conv.weight.permute(4, 0, 1, 2, 3), stride=2)
        dense = torch.cat([_dense_norm(up.norm, dense, active).relu(), skip], 1)
        for block in merge:
            dense = _dense_block(block, dense, active)
    return dense


def test_mink_unet_is_a_u_net_of_dense_convolutions():
    net = _net(MinkUNet)
    clouds = [_cloud(250, 0), _cloud(200, 1)]
    voxels = voxelise(CubePartition(**SMALL), clouds)
    outputs = net(voxels)
    b, x, y, z = voxels.coords.long().T
    points = torch.cat(clouds)
    firsts = [int((voxels.point_to_voxel == k).nonzero()[0]) for k in range(len(b))]
    dense, active = torch.zeros(2, 4, 32, 32, 16), torch.zeros(2, 1, 32, 32, 16)
    dense[b, :, x, y, z], active[b, :, x, y, z] = points[firsts], 1.0
    expected = _dense_net(net, dense, active)[b, :, x, y, z]
    torch.testing.assert_close(outputs.voxel_features, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(outputs.voxel_logits, net.classifier(expected), atol=1e-4, rtol=1e-4)
    assert torch.equal(outputs.point_logits, outputs.voxel_logits[voxels.point_to_voxel])
    # Gradients as well.
    names = [name for name, _ in net.named_parameters()]
    given = torch.autograd.grad(outputs.voxel_logits.square().sum(), list(net.parameters()))
    wanted = torch.autograd.grad(net.classifier(expected).square().sum(), list(net.parameters()))
    for name, one, other in zip(names, given, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3 * float(other.abs().max()), rtol=1e-2, msg=name)


@pytest.mark.parametrize(('ratio', 'published'), [(0.5, 5.5), (0.64, 8.8), (1.0, 21.7)])
def test_published_widths_have_their_parameters(ratio, published):
    with torch.device('meta'):
        nets = [kind(19, channel_ratio=ratio) for kind in (MinkUNet, SPVCNN)]
    plain, with_points = (sum(value.numel() for value in net.parameters()) for net in nets)
    # The released MinkUNet has the point MLPs of SPVCNN too, unused, and so its published number.
    assert with_points / 1e6 == pytest.approx(published, rel=0.01)
    assert with_points - plain == sum(value.numel() for value in nets[1].point_mlps.parameters())


@pytest.mark.parametrize('kind', [MinkUNet, SPVCNN])
def test_points_keep_their_places_and_samples_do_not_meet(kind):
    net, partition = _net(kind), CubePartition(**SMALL)
    first, second = _cloud(300, 0), _cloud(200, 1)
    with torch.no_grad():
        both = net(voxelise(partition, [first, second]))
        alone = net(voxelise(partition, [second]))
        torch.testing.assert_close(both.point_logits[300:], alone.point_logits, atol=1e-5, rtol=1e-4)
        # A border's cube takes what lies beyond.
        far = net(voxelise(partition, [torch.cat([second, torch.tensor([[90.0, 0, 0, 0.5]])])]))
    assert torch.isfinite(far.point_logits).all() and far.point_logits.shape == (201, 5)
    with pytest.raises(InputError, match='takes 7 features of a point'):
        net(voxelise(CylinderPartition((10, 10, 4), (0, -3.2, -2), (6, 3.2, 2)), [first]))


def test_spvcnn_sees_where_in_a_cube_a_point_lies():
    net, partition = _net(SPVCNN), CubePartition(**SMALL)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    cloud = _cloud(300)
    voxels = voxelise(partition, [cloud])
    with torch.no_grad():
        outputs = net(voxels)
        shuffled = net(voxelise(partition, [cloud[order]]))
    torch.testing.assert_close(shuffled.point_logits, outputs.point_logits[order], atol=1e-4, rtol=1e-4)
    rows = voxels.point_to_voxel
    cube = int(torch.bincount(rows).argmax())
    logits = outputs.point_logits[rows == cube]
    assert len(logits) > 1 and (logits.std(0) > 1e-6).all()
    torch.testing.assert_close(outputs.voxel_logits[cube], logits.mean(0), atol=1e-5, rtol=1e-4)
