"""ENet: its size, its sharing, pooling and unpooling without max_unpool2d."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.models.lane.enet import ENet
from perception3d.models.lane.enet_blocks import pool_with_corners, unpool


@pytest.mark.parametrize('ties', [False, True])
def test_pooling_and_unpooling_are_those_of_torch(ties):
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    x = x.round() if ties else x
    values, corners = pool_with_corners(x)
    expected, indices = F.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(values, expected)
    other = torch.randn(values.shape, requires_grad=True)
    torch.testing.assert_close(unpool(other, corners), F.max_unpool2d(other, indices, 2), rtol=0, atol=0)
    weights = torch.randn(x.shape)
    (gradient,) = torch.autograd.grad((unpool(other, corners) * weights).sum(), other)
    (wanted,) = torch.autograd.grad((F.max_unpool2d(other, indices, 2) * weights).sum(), other)
    assert torch.equal(gradient, wanted)


# Millions of parameters. The paper states 0.98 M, and the port, whose existence branch has no 3 x 3 convolution of
# 36,864 weights, 0.817 and 1.106 M at 288 x 800, 0.749 and 1.038 M at 208 x 976.
@pytest.mark.parametrize(
    'input_hw, share, size',
    [
        ((288, 800), 'e3_e4', 0.998), ((208, 976), 'e3_e4', 0.930), ((288, 800), 'all', 0.854),
        ((288, 800), 'none', 1.143), ((208, 976), 'all', 0.785), ((208, 976), 'none', 1.074),
    ],
)  # fmt: skip
def test_sizes(input_hw, share, size):
    net = ENet(4, input_hw, share)
    assert sum(value.numel() for value in net.parameters()) / 1e6 == pytest.approx(size, abs=0.0006)


def test_stages_that_share_their_blocks_have_one_module():
    nets = {share: ENet(4, (32, 64), share) for share in ('none', 'e3_e4', 'all')}
    assert {share: len(net.deep) for share, net in nets.items()} == {'none': 3, 'e3_e4': 2, 'all': 1}
    net = nets['e3_e4'].eval()
    calls = []
    net.deep[1].register_forward_hook(lambda module, inputs, output: calls.append((inputs[0], output)))
    outputs = net(torch.randn(1, 3, 32, 64))
    # The second call reads what the first one gave.
    assert len(calls) == 2 and calls[1][0] is calls[0][1] is outputs.stages[2] and calls[1][1] is outputs.stages[3]
    assert not torch.equal(outputs.stages[2], outputs.stages[3])


# The flattened maps of the existence branch at the sizes of the data sets.
@pytest.mark.parametrize(
    'input_hw, count',
    [((288, 800), 4500), ((208, 976), 3965), ((368, 640), 4600), ((360, 640), 4400), ((288, 960), 5400)],
)
def test_the_existence_branch_has_the_published_sizes(input_hw, count):
    net = ENet(6, input_hw)
    assert net.exist.head[1].in_features == count
    # Rows of an eighth need not be even: those of 360 are 45.
    assert net.exist(torch.zeros(1, 128, input_hw[0] // 8, input_hw[1] // 8)).shape == (1, 6)


def test_settings_are_checked():
    with pytest.raises(InputError, match="unknown share 'e2_e3'"):
        ENet(4, share='e2_e3')
    with pytest.raises(InputError, match=r'input_hw is \[590, 1640\]: expected height and width, multiples of 8'):
        ENet(4, (590, 1640))
