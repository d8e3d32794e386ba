from __future__ import annotations

import copy

import pytest
import torch
from mmdet3d.models.necks import SECONDFPN
from torch import nn

from perception3d.checks import InputError
from perception3d.models.inference.acceleration import accelerate, fold_batch_norms
from perception3d.models.inference.active_convolutions import ActiveBackbone
from perception3d.models.inference.upsampled_maps import UpsampledMaps
from perception3d.models.inference.winograd import Workspace


def _neck(strides=(1, 2, 4)):
    torch.manual_seed(0)
    neck = SECONDFPN(in_channels=[6, 8, 10], out_channels=[12, 20, 7], upsample_strides=list(strides)).eval()
    for part in neck.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
            part.running_mean.normal_(std=0.1)
    return neck


def test_the_joined_map_is_that_of_mmdet3ds_neck(monkeypatch):
    # Several blocks a map, the last one shorter.
    monkeypatch.setattr('perception3d.models.inference.upsampled_maps._BLOCK', 500)
    neck = _neck()
    maps = [torch.randn(2, 6, 12, 20), torch.randn(2, 8, 6, 10), torch.randn(2, 10, 3, 5)]
    with torch.no_grad():
        wanted = copy.deepcopy(neck).double()([x.double() for x in maps])[0]
    folded = fold_batch_norms(neck)
    assert UpsampledMaps.fits(folded.deblocks)
    got = UpsampledMaps(folded.deblocks, Workspace())(maps)
    assert len(got) == 1 and got[0].shape == wanted.shape
    assert (got[0] - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert got[0].min() == 0 and got[0].is_contiguous(memory_format=torch.channels_last)


def test_maps_that_do_not_meet_are_refused():
    neck = UpsampledMaps(fold_batch_norms(_neck()).deblocks, Workspace())
    with pytest.raises(InputError, match='cannot be joined'):
        neck([torch.randn(1, 6, 12, 20), torch.randn(1, 8, 6, 10), torch.randn(1, 10, 3, 6)])


def test_a_neck_that_also_shrinks_a_map_does_not_fit():
    assert not UpsampledMaps.fits(fold_batch_norms(_neck((0.5, 1, 2))).deblocks)


def test_accelerate_takes_backbone_and_neck_of_second_on_the_host_alone():
    from mmdet3d.models.backbones import SECOND

    def build():
        torch.manual_seed(0)
        return nn.ModuleDict(
            dict(
                backbone=SECOND(in_channels=4, out_channels=[6, 8, 10], layer_nums=[1, 1, 1], layer_strides=[1, 2, 2]),
                neck=_neck(),
            )
        ).eval()

    fast, plain = accelerate(build()), accelerate(build(), cpu_kernels=False)
    assert isinstance(fast.backbone, ActiveBackbone) and isinstance(fast.neck, UpsampledMaps)
    assert isinstance(plain.backbone, SECOND) and isinstance(plain.neck, SECONDFPN)
    x = torch.zeros(1, 4, 16, 24)
    x[..., 5:9, 7:9] = torch.randn(4, 2)
    net = build()
    with torch.no_grad():
        wanted, *others = (model.neck(model.backbone(x))[0] for model in (net, fast, plain))
    for other in others:
        assert (other - wanted).abs().max() < 1e-5 * wanted.abs().max()
