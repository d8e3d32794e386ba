from __future__ import annotations

import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

from perception3d.models.inference.acceleration import accelerate, fold_batch_norms
from perception3d.models.inference.winograd import WinogradConv2d


def _warm(module: nn.Module, *shape: int) -> nn.Module:
    """Gives every norm statistics and affine parameters that matter."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(part.weight, -1.5, 1.5)
            nn.init.normal_(part.bias)
            part.running_mean.normal_()
            part.running_var.uniform_(0.2, 3.0)
    return module.eval()


@pytest.mark.parametrize(
    'module',
    [
        nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 8, 3, groups=1, bias=True), nn.BatchNorm2d(8, eps=1e-3)),
        nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)),
        nn.Sequential(nn.ConvTranspose2d(3, 8, 2, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        ConvModule(3, 8, 3, padding=1, norm_cfg=dict(type='BN')),
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 1)), nn.BatchNorm2d(8)),
    ],
    ids=['conv', 'bias', 'groups', 'transposed', 'conv-module', 'norm-behind-a-container'],
)
def test_folding_keeps_the_function(module):
    _warm(module)
    x = torch.randn(2, 3, 9, 7)
    expected = module(x)
    got = fold_batch_norms(copy.deepcopy(module))(x)
    assert torch.allclose(got, expected, atol=1e-5)


def test_a_folded_norm_is_gone_and_one_that_has_no_convolution_before_it_stays():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    fold_batch_norms(module)
    assert isinstance(module[1], nn.Identity) and isinstance(module[3], nn.BatchNorm2d)


def test_a_norm_without_running_statistics_stays():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    fold_batch_norms(module)
    assert isinstance(module[1], nn.BatchNorm2d)


def test_sparse_convolutions_are_folded_too():
    spconv = pytest.importorskip('spconv.pytorch')
    module = spconv.SparseSequential(
        spconv.SubMConv3d(4, 6, 3, bias=False, indice_key='a'), nn.BatchNorm1d(6), nn.ReLU(),
        spconv.SparseConv3d(6, 5, 3, stride=2, padding=1, bias=False), nn.BatchNorm1d(5),
    )  # fmt: skip
    _warm(module)
    torch.manual_seed(1)
    cells = torch.randperm(4 * 5 * 6)[:40]
    indices = torch.stack([torch.zeros(40), cells // 30, cells // 6 % 5, cells % 6], 1).int()
    sparse = spconv.SparseConvTensor(torch.randn(40, 4), indices, [4, 5, 6], 1)
    expected = module(sparse).dense()
    folded = fold_batch_norms(copy.deepcopy(module))
    assert not any(isinstance(part, nn.BatchNorm1d) for part in folded.modules())
    assert torch.allclose(folded(sparse).dense(), expected, atol=1e-5)


@pytest.mark.parametrize(('instructions', 'least'), [('AVX2', 64), ('AVX512', 256)])
def test_accelerate_takes_winograd_where_it_pays_and_keeps_the_function(monkeypatch, instructions, least):
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: instructions)
    wide = [nn.Sequential(nn.Conv2d(n, n, 3, padding=1), nn.BatchNorm2d(n), nn.ReLU()) for n in (64, 256)]
    module = nn.Sequential(*wide[0], nn.Conv2d(64, 256, 1), *wide[1], nn.Conv2d(256, 8, 3))
    _warm(module)
    x = torch.randn(1, 64, 13, 10)
    expected = module(x)
    fast = accelerate(copy.deepcopy(module))
    assert [isinstance(fast[k], WinogradConv2d) for k in (0, 4, 7)] == [least == 64, True, False]
    with torch.no_grad():
        assert torch.allclose(fast(x), expected, atol=1e-4 * float(expected.abs().max()))
    assert not any(isinstance(part, WinogradConv2d) for part in accelerate(module, cpu_kernels=False).modules())
