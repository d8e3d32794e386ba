"""PearsonFeatureKD: numbers by hand, and its identity with Pearson's correlation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from perception3d.distill.losses.pearson import PearsonFeatureKD


def test_channels_by_hand() -> None:
    # Channel 0: 1, 3 over the two samples becomes -1, 1; the teacher's 9, 5 becomes 1, -1: squares 4, 4.
    # Channel 1: 0, 2 and 10, 70 both become -1, 1: 0, 0. The mean of 4, 4, 0, 0 is 2; half of it is 1.
    student = torch.tensor([[[[1.0]], [[0.0]]], [[[3.0]], [[2.0]]]])
    teacher = torch.tensor([[[[9.0]], [[10.0]]], [[[5.0]], [[70.0]]]])
    assert PearsonFeatureKD()(student, teacher, None).item() == pytest.approx(1.0, abs=1e-5)


def test_loss_is_the_mean_over_channels_of_one_minus_pearsons_r() -> None:
    generator = np.random.default_rng(0)
    student, noise = generator.normal(size=(2, 2, 5, 4, 6))
    teacher = 3 * noise + np.linspace(0, 4, 5).reshape(5, 1, 1) * student + 7
    r = [np.corrcoef(student[:, c].ravel(), teacher[:, c].ravel())[0, 1] for c in range(5)]
    assert max(r) - min(r) > 0.3
    loss = PearsonFeatureKD()(torch.from_numpy(student), torch.from_numpy(teacher), None)
    assert loss.item() == pytest.approx(1 - np.mean(r), abs=2e-6)


def test_scale_and_offset_of_a_channel_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    loss, scale = PearsonFeatureKD(), torch.tensor([0.5, 3.0, 20.0]).view(3, 1, 1)
    expected = loss(student, teacher, None).item()
    assert loss(student * scale - 5, teacher / scale + 2, None).item() == pytest.approx(expected, rel=1e-4)
    assert loss(student, student * scale + 1, None).item() == pytest.approx(0, abs=1e-5)


def test_a_channel_that_is_constant_in_one_map_counts_a_half_and_in_both_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(2, 2, 4, 5, generator=generator)
    student = teacher.clone()
    student[:, 1] = 100.1
    student.requires_grad_()
    loss = PearsonFeatureKD()(student, teacher, None)
    loss.backward()
    assert loss.item() == pytest.approx(0.25, abs=1e-5)
    assert student.grad.isfinite().all()
    constant = torch.full((2, 2, 4, 5), 100.1)
    assert PearsonFeatureKD()(constant, 2 * constant, None).item() == pytest.approx(0, abs=1e-5)
