"""Cylinder3D: sizes as published, its sparse network against dense convolutions, and what it runs in."""

from __future__ import annotations

import pytest
import torch
from seg_parts import batch, cloud, partition, segmentor
from torch import nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.compat.spconv_build import require_build
from perception3d.models.lidar_seg.cylinder3d import Cylinder3D
from perception3d.models.lidar_seg.voxels import voxelise
from perception3d.registry import TASK_UTILS


@pytest.mark.parametrize(
    ('width', 'compressed', 'points', 'published'),
    [(32, 16, 256, 55.853), (32, 32, 256, 55.87), (16, 16, 256, 14.07), (16, 16, 128, 14.03), (48, 16, 256, 125.5)],
)
def test_the_published_numbers_of_parameters(width, compressed, points, published):
    with torch.device('meta'):
        net = Cylinder3D(20, width=width, compressed_channels=compressed, point_channels=points, refine=False)
    assert sum(value.numel() for value in net.parameters()) / 1e6 == pytest.approx(published, rel=1e-3)


class _Dense:
    """The sparse network by dense convolutions, on volumes (B, C, *grid) that are zero at inactive cells."""

    def __init__(self, coords, grid):
        self.coords = coords.long()
        self.masks = [self.volume(torch.ones(len(coords), 1, dtype=torch.float64), grid)]

    def volume(self, features, grid):
        size = (int(self.coords[:, 0].max()) + 1, *grid, features.shape[1])
        return features.new_zeros(size).index_put(tuple(self.coords.T), features).permute(0, 4, 1, 2, 3)

    def rows(self, volume, level=0):
        """Features of active cells, in the order of the volume; those of `coords` on the first level."""
        return volume.permute(0, 2, 3, 4, 1)[self.masks[level][:, 0] > 0]

    def subm(self, x, conv, level):
        padding = [k // 2 for k in conv.kernel_size]
        return F.conv3d(x, conv.weight.permute(0, 4, 1, 2, 3), padding=padding) * self.masks[level]

    def norm(self, x, norm, level):
        """Batch norm over active cells."""
        rows = norm(self.rows(x, level))
        out = torch.zeros_like(x).permute(0, 2, 3, 4, 1)
        return out.masked_scatter(self.masks[level][:, 0, ..., None] > 0, rows).permute(0, 4, 1, 2, 3)

    def step(self, x, part, level):
        return self.norm(F.leaky_relu(self.subm(x, part.conv, level)), part.norm, level)

    def block(self, x, block, level):
        first = self.step(self.step(x, block.first[0], level), block.first[1], level)
        return first + self.step(self.step(x, block.second[0], level), block.second[1], level)

    def down(self, x, pool, level):
        settings = dict(stride=pool.stride, padding=1)
        if len(self.masks) == level + 1:
            reached = F.conv3d(self.masks[level], torch.ones(1, 1, 3, 3, 3, dtype=torch.float64), **settings)
            self.masks.append((reached > 0).double())
        return F.conv3d(x, pool.weight.permute(0, 4, 1, 2, 3), **settings) * self.masks[level + 1]

    def up(self, x, up, stride, level):
        size = self.masks[level].shape[2:]
        rest = [n - ((o - 1) * s + 1) for n, o, s in zip(size, x.shape[2:], stride)]
        weight = up.weight.permute(4, 0, 1, 2, 3)
        out = F.conv_transpose3d(x, weight, stride=stride, padding=1, output_padding=rest)
        return out * self.masks[level]

    def __call__(self, net, features, grid):
        x, skips = self.block(self.volume(features, grid), net.context, 0), []
        for level, down in enumerate(net.down):
            skips.append(self.block(x, down.block, level))
            x = self.down(skips[-1], down.pool, level)
        for level, up in zip((3, 2, 1, 0), net.up):
            x = self.up(self.step(x, up.before, level + 1), up.up, net.down[level].pool.stride, level)
            x = x + skips.pop()
            for part in up.after:
                x = self.step(x, part, level)
        gates = [
            self.norm(self.subm(x, conv, 0), norm, 0).sigmoid()
            for conv, norm in zip(net.ddcm.convs, net.ddcm.norms)
        ]  # fmt: skip
        x = torch.cat([sum(gates) * x, x], 1)
        return self.rows(self.subm(x, net.voxel_head.conv, 0)) + net.voxel_head.bias


def test_the_sparse_network_and_its_gradients_are_those_of_dense_convolutions():
    torch.manual_seed(0)
    net = Cylinder3D(3, width=2, point_channels=4, compressed_channels=3, refine=False).double().train()
    entered = []
    net.compress.register_forward_hook(lambda _, __, out: entered.append(out))
    voxels = voxelise(TASK_UTILS.build(partition()), [cloud(250).double(), cloud(250, 1).double()])
    logits = net(voxels).voxel_logits
    weights = torch.randn_like(logits)
    sparse_names = [name for name, _ in net.named_parameters() if not name.startswith(('point_mlp', 'compress'))]
    parameters = [net.get_parameter(name) for name in sparse_names]
    got = torch.autograd.grad((logits * weights).sum(), [entered[0], *parameters])
    features = entered[0].detach().requires_grad_()
    wanted_logits = _Dense(voxels.coords, voxels.grid_shape)(net, features, voxels.grid_shape)
    wanted = torch.autograd.grad((wanted_logits * weights).sum(), [features, *parameters])
    assert torch.allclose(logits, wanted_logits, atol=1e-9)
    for name, a, b in zip(['features', *sparse_names], got, wanted, strict=True):
        assert b.abs().sum() > 0 and torch.allclose(a, b, atol=1e-8 * max(1.0, b.abs().max().item())), name


def test_a_list_of_pairs_is_made_once_for_each_resolution_and_kernel(monkeypatch):
    from spconv.pytorch import ops

    made, original = [], ops.get_indice_pairs

    def count(indices, batch_size, shape, algo, kernel, *args):
        made.append((len(indices), tuple(kernel), args[4]))
        return original(indices, batch_size, shape, algo, kernel, *args)

    monkeypatch.setattr(ops, 'get_indice_pairs', count)
    model = segmentor().eval()
    with torch.no_grad():
        model(**model.data_preprocessor(batch(), False), mode='tensor')
    # Four levels with (1, 3, 3), (3, 1, 3), (3, 3, 3) and a stride, (3, 3, 3) of the fifth, three of rank 1.
    assert len(made) == 4 * 4 + 1 + 3
    assert len({kernel for _, kernel, _ in made}) == 6


def test_bfloat16_autocast_keeps_sparse_convolutions_in_float32():
    model = segmentor().train()
    data = model.data_preprocessor(batch(), True)
    plain = model(**data, mode='tensor')
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(**data, mode='loss')
        outputs = model(**data, mode='tensor')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert outputs.voxel_logits.dtype == torch.float32 and outputs.point_logits.dtype == torch.bfloat16
    assert torch.isfinite(total) and all(torch.isfinite(value.grad).all() for value in model.parameters())
    assert not torch.equal(outputs.voxel_logits, plain.voxel_logits)
    assert torch.nn.functional.cosine_similarity(outputs.voxel_logits, plain.voxel_logits).mean() > 0.9


def test_norms_of_the_sparse_network_take_their_eps():
    net = Cylinder3D(3, width=2, point_channels=4, compressed_channels=3, norm_eps=6.2e-5)
    eps = {name: norm.eps for name, norm in net.named_modules() if isinstance(norm, nn.BatchNorm1d)}
    assert {value for name, value in eps.items() if not name.startswith('point_mlp')} == {6.2e-5}


@pytest.mark.parametrize(
    ('cuda', 'wheel'), [('12.4', 'cu124'), ('12.8', 'cu126'), ('12.2', 'cu121'), ('13.0', 'cu126'), ('11.8', 'cu118')]
)
def test_tensors_on_a_gpu_need_the_build_of_spconv_for_it(cuda, wheel):
    with pytest.raises(
        InputError, match=f'build for CPUs: run "pip uninstall -y spconv cumm && pip install .*{wheel}"'
    ):
        require_build('cuda', True, cuda)
    require_build('cuda', False, cuda)
    require_build('cpu', True, None)
