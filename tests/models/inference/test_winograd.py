from __future__ import annotations

import pytest
import torch
from torch import nn

from perception3d.checks import InputError
from perception3d.models.inference.winograd import WinogradConv2d, Workspace, use_winograd


@pytest.mark.parametrize('size', [(2, 8, 12, 16), (1, 5, 7, 9), (3, 4, 1, 2), (1, 3, 130, 70)])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('layout', [torch.channels_last, torch.contiguous_format])
def test_it_is_the_convolution(size, bias, layout):
    torch.manual_seed(0)
    conv = nn.Conv2d(size[1], 6, 3, padding=1, bias=bias)
    x = torch.randn(size).contiguous(memory_format=layout)
    expected = conv.double()(x.double())
    got = WinogradConv2d(conv)(x)
    assert got.shape == expected.shape and got.dtype == torch.float32
    assert got.permute(0, 2, 3, 1)[0].stride()[-1] == 1
    assert (got - expected).abs().max() < 2e-5 * expected.abs().max()


def test_shared_scratch_memory_leaks_nothing_from_call_to_call():
    torch.manual_seed(0)
    workspace = Workspace()
    convs = [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)]
    fast = [WinogradConv2d(conv, workspace) for conv in convs]
    for size in ((9, 9), (17, 6), (9, 9), (8, 8)):
        for conv, other in zip(convs, fast, strict=True):
            x = torch.randn(2, 4, *size)
            torch.testing.assert_close(other(x), conv(x), rtol=1e-4, atol=1e-5)


def test_only_what_fits_and_pays_is_replaced():
    net = nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 32, 3, padding=1),
        nn.Sequential(nn.Conv2d(32, 64, 3, padding=2, dilation=2), nn.Conv2d(64, 64, 3, padding=1)),
    )
    use_winograd(net)
    kinds = [isinstance(m, WinogradConv2d) for m in (*net[:5], *net[5])]
    assert kinds == [True, False, False, False, False, False, True]


def test_another_convolution_is_refused():
    with pytest.raises(InputError, match='stride 1'):
        WinogradConv2d(nn.Conv2d(4, 4, 3, padding=1, stride=2))
