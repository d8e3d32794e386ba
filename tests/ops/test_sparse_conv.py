"""spconv's modules on the CPU, whose loops are ours, against dense convolutions."""

from __future__ import annotations

import pytest
import torch

from perception3d.checks import InputError
from perception3d.ops.sparse_pairs import strided_pairs, submanifold_pairs

spconv = pytest.importorskip('spconv.pytorch')

SHAPE = (11, 18, 20)


def _sites(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    places = [torch.randint(0, size, (count, 1), generator=generator) for size in (2, *SHAPE)]
    return torch.cat(places, 1).int().unique(dim=0)


def _dense(features, indices):
    batch, *place = indices.long().unbind(1)
    rows = features.new_zeros(2, *SHAPE, features.shape[1]).index_put((batch, *place), features)
    return rows.permute(0, 4, 1, 2, 3)


def _at(volume, indices):
    batch, *place = indices.long().unbind(1)
    return volume.permute(0, 2, 3, 4, 1)[(batch, *place)]


def _sparse(features, indices):
    return spconv.SparseConvTensor(features, indices, list(SHAPE), 2)


@pytest.mark.parametrize('threads', [1, 4])
@pytest.mark.parametrize('channels', [(5, 7), (16, 32)])
@pytest.mark.parametrize(
    'settings', [{'subm': True}, {'stride': 2, 'padding': 1}, {'stride': (2, 1, 1), 'kernel': (3, 1, 1)}]
)
def test_results_and_gradients_are_those_of_dense_convolutions(threads, channels, settings):
    torch.manual_seed(0)
    subm, kernel = settings.get('subm', False), settings.get('kernel', 3)
    stride, padding = settings.get('stride', 1), settings.get('padding', 0)
    if subm:
        conv = spconv.SubMConv3d(*channels, kernel, bias=False, indice_key='a')
    else:
        conv = spconv.SparseConv3d(*channels, kernel, stride, padding, bias=False)
    indices = _sites(3000)
    features = torch.randn(len(indices), channels[0], requires_grad=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = conv(_sparse(features, indices))
        again = conv(_sparse(features, indices)).features
        weights = torch.randn_like(out.features)
        (out.features * weights).sum().backward()
    finally:
        torch.set_num_threads(before)
    assert torch.equal(out.features, again)
    # spconv keeps weights as (outputs, kernel, inputs).
    twin = features.detach().double().requires_grad_()
    filters = conv.weight.detach().double().permute(0, 4, 1, 2, 3).clone().requires_grad_()
    volume = torch.nn.functional.conv3d(_dense(twin, indices), filters, stride=stride, padding=1 if subm else padding)
    wanted = _at(volume, out.indices)
    (wanted * weights).sum().backward()
    assert subm or len(out.indices) == int((volume.abs().sum(1) > 0).sum())
    assert torch.allclose(out.features.double(), wanted, atol=1e-5)
    assert torch.allclose(features.grad.double(), twin.grad, atol=1e-5)
    assert torch.allclose(conv.weight.grad.double().permute(0, 4, 1, 2, 3), filters.grad, atol=1e-3)


def test_an_inverse_convolution_is_the_transpose():
    torch.manual_seed(0)
    down = spconv.SparseConv3d(4, 6, 3, 2, 1, bias=False, indice_key='d')
    up = spconv.SparseInverseConv3d(6, 4, 3, bias=False, indice_key='d')
    with torch.no_grad():
        up.weight.copy_(down.weight.permute(4, 1, 2, 3, 0))
    indices = _sites(500)
    x, y = torch.randn(len(indices), 4), None
    with torch.no_grad():
        middle = down(_sparse(x, indices))
        y = torch.randn_like(middle.features)
        back = up(middle.replace_feature(y)).features
    # <down x, y> = <x, up y>
    assert float((middle.features * y).sum()) == pytest.approx(float((x * back).sum()), rel=1e-4)


def test_a_site_without_neighbours_sees_itself_alone():
    conv = spconv.SubMConv3d(4, 4, 3, bias=False, indice_key='a')
    lonely = torch.tensor([[0, 0, 0, 0], [1, 10, 17, 19]]).int()
    features = torch.randn(2, 4)
    with torch.no_grad():
        out = conv(_sparse(features, lonely)).features
        assert torch.allclose(out, features @ conv.weight[:, 1, 1, 1].T, atol=1e-6)


def _pairs_of(lists, counts):
    return [sorted(zip(*(side[k, :count].tolist() for side in lists), strict=True)) for k, count in enumerate(counts)]


@pytest.mark.parametrize('kernel', [(3, 3, 3), (1, 3, 5)])
@pytest.mark.parametrize('dilation', [(1, 1, 1), (2, 1, 3)])
@pytest.mark.parametrize('count', [60, 3000])
def test_pairs_are_those_of_spconv(kernel, dilation, count):
    from spconv.core import ConvAlgo
    from spconv.pytorch import ops

    indices = _sites(count)
    for subm, stride, padding in ((True, (1, 1, 1), (0, 0, 0)), (False, (2, 1, 3), (0, 1, 2))):
        arguments = (indices, 2, list(SHAPE), ConvAlgo.Native, kernel, stride, padding, dilation, (0, 0, 0), subm)
        wanted_out, wanted, wanted_counts = ops.get_indice_pairs.of_device(*arguments)
        out, pairs, counts = ops.get_indice_pairs(*arguments)
        order = {tuple(site): i for i, site in enumerate(wanted_out.tolist())}
        assert len(out) == len(wanted_out) and {tuple(site) for site in out.tolist()} == set(order)
        renumbered = torch.tensor([order[tuple(site)] for site in out.tolist()])
        half = len(counts) // 2 if subm else len(counts)
        assert counts.tolist()[:half] == wanted_counts.tolist()[:half]
        for k in range(half):
            count = int(counts[k])
            pairs[1, k, :count] = renumbered[pairs[1, k, :count].long()].int()
        assert _pairs_of(pairs, counts[:half].tolist()) == _pairs_of(wanted, wanted_counts[:half].tolist())


def test_what_cannot_be_convolved_is_refused():
    indices = _sites(10)
    with pytest.raises(InputError, match='odd'):
        submanifold_pairs(indices, SHAPE, (2, 3, 3), (1, 1, 1))
    with pytest.raises(InputError, match='leaves nothing'):
        strided_pairs(indices, SHAPE, (13, 3, 3), (1, 1, 1), (0, 0, 0), (1, 1, 1))


def test_a_bias_on_the_cpu_is_refused_and_not_forgotten():
    conv, sites = spconv.SubMConv3d(4, 4, 3, indice_key='a').eval(), _sites(10)
    with torch.no_grad(), pytest.raises(AssertionError, match='bias'):
        conv(_sparse(torch.randn(len(sites), 4), sites))
