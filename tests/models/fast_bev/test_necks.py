from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from perception3d.checks import InputError
from perception3d.models.fast_bev.necks import M2BEVNeck, PyramidFuse


def test_pyramid_fuse_stacks_a_level_with_all_coarser_ones():
    torch.manual_seed(0)
    fuse = PyramidFuse(levels=(0, 2), num_levels=4, in_channels=4, out_channels=5)
    pyramid = [torch.randn(2, 4, 16 >> i, 24 >> i) for i in range(4)]
    fused = fuse(pyramid)
    resized = [F.interpolate(p, scale_factor=2**i, mode='bilinear') for i, p in enumerate(pyramid)]
    torch.testing.assert_close(fused[0], fuse.convs['0'](torch.cat(resized, 1)))
    assert [tuple(f.shape) for f in fused] == [(2, 5, 16, 24), (2, 5, 4, 6)]
    assert fuse.convs['2'].in_channels == 8


def test_pyramid_fuse_refuses_a_level_that_is_not_there():
    with pytest.raises(InputError, match='pyramid of 4'):
        PyramidFuse(levels=(4,))


@pytest.mark.parametrize('scaler', ['upsample', 'pool'])
def test_convolving_before_resizing_equals_resizing_before_convolving(scaler):
    torch.manual_seed(0)
    neck = M2BEVNeck(6, 8, num_layers=1, fuse_channels=4 + 8 + 12, scaler=scaler).eval()
    volumes = [torch.randn(2, 4, 12, 8), torch.randn(2, 8, 9, 6), torch.randn(2, 12, 6, 4)]
    if scaler == 'upsample':
        resized = [F.interpolate(v, (12, 8), mode='bilinear', align_corners=False) for v in volumes]
    else:
        resized = [F.adaptive_avg_pool2d(v, (6, 4)) for v in volumes]
    expected = neck.model(neck.fuse(torch.cat(resized, 1)))
    torch.testing.assert_close(neck(volumes), expected, rtol=1e-5, atol=1e-5)


def test_the_encoder_is_a_chain_of_residual_blocks_with_one_stride():
    neck = M2BEVNeck(6, 8, num_layers=2)
    convs = [m for m in neck.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [c.stride[0] for c in convs] == [1, 1, 2] + [1] * 6
    assert neck([torch.randn(1, 6, 11, 8)]).shape == (1, 8, 6, 4)
    x = torch.randn(1, 6, 5, 5)
    block = neck.model[0].eval()
    inner = block.conv1.bn(block.conv1.conv(F.relu(block.conv0.bn(block.conv0.conv(x)))))
    torch.testing.assert_close(block(x), F.relu(x + inner))


def test_checkpointing_changes_memory_not_gradients():
    torch.manual_seed(0)
    neck = M2BEVNeck(4, 4, num_layers=1, fuse_channels=6)
    x = torch.randn(2, 6, 8, 8)
    gradients = []
    for with_cp in (False, True):
        neck.with_cp = with_cp
        neck.zero_grad()
        neck([x]).square().sum().backward()
        gradients.append([p.grad.clone() for p in neck.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_an_unknown_scaler_is_refused():
    with pytest.raises(InputError, match='stretch'):
        M2BEVNeck(4, 4, scaler='stretch')
