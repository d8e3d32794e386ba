from __future__ import annotations

import pytest
import torch

pytest.importorskip('spconv')

from mmdet3d.models.middle_encoders import SparseEncoder

from perception3d.models.lidar_det.sparse_encoder import RowSparseEncoder

SETTINGS = dict(
    in_channels=4,
    sparse_shape=[41, 40, 48],
    order=('conv', 'norm', 'act'),
    base_channels=4,
    output_channels=6,
    encoder_channels=((4,), (8, 8), (8, 8)),
    encoder_paddings=((1,), (1, 1), (1, 1)),
)


def _pair():
    torch.manual_seed(0)
    theirs, ours = SparseEncoder(**SETTINGS), RowSparseEncoder(**SETTINGS)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def _voxels(seed, count=300):
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([2, 41, 40, 48])
    places = (torch.rand(count, 4, generator=generator) * size).int().unique(dim=0)
    return torch.randn(len(places), 4, generator=generator), places


@pytest.mark.parametrize('kept', [False, True])
def test_the_map_equals_that_of_mmdet3d_call_after_call(kept):
    theirs, ours = (encoder.eval() for encoder in _pair())
    if kept:
        ours.prepare_for_inference()
    for seed in range(3):
        with torch.no_grad():
            wanted, got = (encoder(*_voxels(seed), 2) for encoder in (theirs, ours))
        assert torch.equal(wanted, got) and got.abs().max() > 0
        assert got.is_contiguous(memory_format=torch.channels_last)


def test_it_learns_as_mmdet3ds_does():
    gradients = []
    for encoder in _pair():
        encoder.train()(*_voxels(0), 2).square().mean().backward()
        gradients.append(encoder.conv_input[0].weight.grad)
    assert torch.equal(*gradients) and gradients[0].abs().max() > 0
