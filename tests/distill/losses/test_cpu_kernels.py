"""The CPU kernels of losses against the plain operations: values, gradients, memory layouts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from perception3d.distill.losses import fused_feature, view_relation
from perception3d.distill.losses.fused_feature import FusedFeatureKD
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
        # Two samples with the same images, as two consecutive ones of a stream.
        level = SimpleNamespace(rows=rows, hw=(1, width), first=first[:1].repeat(2, 0) if shared else first)
        return [level], np.stack([cameras, cameras])[:, None], (1, width), (1, width - 1)

    student, teacher = batch(0, 5, 2), batch(1, 4, 3)
    results = []
    for compute in (view_relation._on_gpu, view_relation._on_cpu):
        level = student[0][0]
        level.rows = level.rows.detach().requires_grad_()
        value = compute(student, teacher, grid, gram_weight, 0.1)
        (3 * value).backward()
        results.append((value.detach(), level.rows.grad))
        with torch.no_grad():
            assert float(compute(student, teacher, grid, gram_weight, 0.1)) == float(value)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    assert results[0][1].abs().sum() > 0


@pytest.mark.parametrize('saliency', [None, 'head'])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_fused_features(monkeypatch, saliency, dtype, tolerance):
    student, teacher = (random(2, 5, 33, 40, seed=seed).to(dtype) for seed in (0, 1))
    teacher = teacher * 3 + 1000
    teacher[:, 2] = 7  # a constant channel
    context = SimpleNamespace(teacher={'head': random(2, 3, 33, 40).to(dtype)})
    loss, taken = FusedFeatureKD(saliency), []
    apply = fused_feature.CpuImitation.apply
    monkeypatch.setattr(fused_feature.CpuImitation, 'apply', lambda *args: taken.append(1) or apply(*args))
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = student.clone(memory_format=layout).requires_grad_()
        value = loss(leaf, teacher.contiguous(memory_format=layout), context)
        (3 * value).backward()
        results.append((value.detach(), leaf.grad))
        with torch.no_grad():
            assert float(loss(leaf, teacher.contiguous(memory_format=layout), context)) == float(value)
    assert len(taken) == 2 and results[1][1].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)
    # Different layouts, or a teacher of another dtype, use the plain operations.
    loss(student, teacher.contiguous(memory_format=torch.channels_last), context)
    other = torch.float64 if dtype == torch.float32 else torch.float32
    loss(leaf, teacher.to(other).contiguous(memory_format=torch.channels_last), context)
    assert len(taken) == 2
