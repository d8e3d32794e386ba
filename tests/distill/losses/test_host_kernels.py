"""Losses in a few passes on the CPU are the plain operations: values, gradients, layouts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from perception3d.distill.losses import fused_feature
from perception3d.distill.losses.fused_feature import FusedFeatureKD
from perception3d.distill.losses.view_relation import ViewRelationKD
from perception3d.geometry.grid import VoxelGrid


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(('gram_weight', 'shared'), [(2.0, False), (0.0, False), (1.0, True)])
def test_view_relations(gram_weight, shared):
    grid = VoxelGrid(range_m=(4, 0, 0, 5, 4, 1), shape=(1, 8, 2))
    shift = np.eye(4)
    shift[1, 3] = 1.3
    cameras = [np.array([[0.0, 4, 0, 0], [0, 0, 4, 0], [1, 0, 0, 0], [0, 0, 0, 1]])]
    cameras += [cameras[0] @ shift, cameras[0] @ shift @ shift]

    def batch(seed, width, channels):
        rows = random(6 * width, channels, seed=seed)
        rows[1], rows[-1] = 0, 1e-9 * rows[-1]  # no direction
        first = np.arange(6).reshape(2, 1, 3) * width
        # Two samples that see the same images, as two that follow each other in a stream.
        level = SimpleNamespace(rows=rows, hw=(1, width), first=first[:1].repeat(2, 0) if shared else first)
        return [level], np.stack([cameras, cameras])[:, None], (1, width), (1, width - 1)

    views, loss = (batch(0, 5, 2), batch(1, 4, 3)), ViewRelationKD(grid, gram_weight)
    found = []
    for compute in (loss._on_device, loss._on_host):
        mine, theirs = (view[0][0].rows.clone() for view in views)
        value = compute(views, mine.requires_grad_(), theirs)
        (3 * value).backward()
        found.append((value.detach(), mine.grad))
        with torch.no_grad():
            assert float(compute(views, mine, theirs)) == float(value)
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    assert found[0][1].abs().sum() > 0


@pytest.mark.parametrize('saliency', [None, 'head'])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_fused_features(monkeypatch, saliency, dtype, tolerance):
    student, teacher = (random(2, 5, 33, 40, seed=seed).to(dtype) for seed in (0, 1))
    teacher = teacher * 3 + 1000
    teacher[:, 2] = 7  # a constant channel
    context = SimpleNamespace(teacher={'head': random(2, 3, 33, 40).to(dtype)})
    loss, taken = FusedFeatureKD(saliency), []
    apply = fused_feature.HostImitation.apply
    monkeypatch.setattr(fused_feature.HostImitation, 'apply', lambda *args: taken.append(1) or apply(*args))
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        mine = student.clone(memory_format=layout).requires_grad_()
        value = loss(mine, teacher.contiguous(memory_format=layout), context)
        (3 * value).backward()
        found.append((value.detach(), mine.grad))
        with torch.no_grad():
            assert float(loss(mine, teacher.contiguous(memory_format=layout), context)) == float(value)
    assert len(taken) == 2 and found[1][1].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)
    # Layouts that differ, or a teacher of another type, go the plain way.
    loss(student, teacher.contiguous(memory_format=torch.channels_last), context)
    other = torch.float64 if dtype == torch.float32 else torch.float32
    loss(mine, teacher.to(other).contiguous(memory_format=torch.channels_last), context)
    assert len(taken) == 2
