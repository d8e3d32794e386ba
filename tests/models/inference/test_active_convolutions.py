from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from perception3d.models.inference.active_convolutions import ActiveBackbone, ActiveMap
from perception3d.models.inference.winograd import Workspace


def _block(inputs, outputs, count, bias=0.0):
    layers = []
    for i in range(count):
        layers += [nn.Conv2d(outputs if i else inputs, outputs, 3, 2 if i == 0 else 1, 1), nn.Identity(), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-3].weight)
        nn.init.normal_(layers[-3].bias, bias, 0.3)
    return nn.Sequential(*layers)


def _map(size, share, channels=8):
    """A map with a few filled pixels, some of them in a corner and at the border."""
    torch.manual_seed(0)
    x = torch.zeros(2, channels, *size)
    x[:, :, torch.rand(size) < share] = 1.0
    x *= torch.randn_like(x)
    x[0, :, 0, 0] = 1.0
    x[1, :, -1, size[1] // 2] = -1.0
    return x


def _dense(blocks, x):
    outs = []
    for block in copy.deepcopy(blocks):
        x = block.double()(x.double())
        outs.append(x)
    return outs


@pytest.mark.parametrize('share', [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize('size', [(64, 48), (37, 51)])
@pytest.mark.parametrize('widths', [(16, 20), (64, 72)])
def test_the_maps_are_those_of_the_dense_stack(share, size, widths):
    torch.manual_seed(1)
    blocks = [_block(8, widths[0], 3), _block(widths[0], widths[1], 2)]
    x = _map(size, share)
    with torch.no_grad():
        wanted = _dense(blocks, x)
        got = ActiveBackbone(blocks, Workspace())(x)
    for a, b in zip(wanted, got, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 2e-5 * a.abs().max()


def test_an_empty_map_is_background_but_for_the_border():
    torch.manual_seed(0)
    backbone = ActiveBackbone([_block(8, 64, 4, bias=0.2)], Workspace())
    active = ActiveMap.of(torch.zeros(1, 8, 96, 96))
    shares = []
    for conv in backbone.blocks[0]:
        active = conv(active)
        shares.append(float(active.mask.mean()))
    # The zeros around the map of 48 x 48 reach one pixel further in with every convolution but the first.
    rings = [1 - (48 - 2 * ring) ** 2 / 48**2 for ring in range(4)]
    assert shares == pytest.approx(rings)
    assert active.background.abs().sum() > 0
    assert torch.allclose(active.rows[0, 20, 20], active.background)


def test_only_stacks_of_plain_convolutions_with_relu_fit():
    fitting = _block(4, 8, 2)
    assert ActiveBackbone.fits([fitting, _block(8, 8, 1)])
    assert not ActiveBackbone.fits([fitting[:-1]])
    for k, other in (
        (0, nn.Conv2d(4, 8, 3, 2, 1, dilation=2)),
        (0, nn.Conv2d(4, 8, 5, 2, 1)),
        (0, nn.Conv2d(4, 8, 3, 3, 1)),
        (1, nn.BatchNorm2d(8)),
        (2, nn.LeakyReLU()),
    ):
        changed = copy.deepcopy(fitting)
        changed[k] = other
        assert not ActiveBackbone.fits([changed])


def test_two_backbones_share_scratch_memory_but_not_their_maps():
    torch.manual_seed(0)
    workspace = Workspace()
    first, second = (ActiveBackbone([_block(8, 16, 3), _block(16, 24, 2)], workspace) for _ in range(2))
    x = _map((64, 48), 0.02)
    kept = first(x)
    copies = [out.clone() for out in kept]
    second(x)
    assert all(torch.equal(out, copy) for out, copy in zip(kept, copies, strict=True))
