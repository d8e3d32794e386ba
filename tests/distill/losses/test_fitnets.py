"""FeatureMSE on numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from perception3d.distill.losses.fitnets import FeatureMSE


def test_mean_squared_error_by_hand() -> None:
    student = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    teacher = torch.tensor([[[[1.0, 0.0], [0.0, 4.0]]]])
    # Differences 0, 2, 3, 0: (4 + 9) / 4.
    assert FeatureMSE()(student, teacher, None).item() == pytest.approx(3.25)


def test_standardised_teacher_by_hand() -> None:
    # Channel 0 over both samples: 1 and 3, mean 2, deviation 1: -1 and 1. Channel 1: 10 and 50, mean 30, deviation 20.
    teacher = torch.tensor([[[[1.0]], [[10.0]]], [[[3.0]], [[50.0]]]])
    # The student's differences to -1, -1, 1, 1: 1, 2, 0, -1, so (1 + 4 + 0 + 1) / 4.
    student = torch.tensor([[[[0.0]], [[1.0]]], [[[1.0]], [[0.0]]]])
    assert FeatureMSE(normalise=True)(student, teacher, None).item() == pytest.approx(1.5, abs=1e-5)


def test_standardised_teacher_may_have_any_scale_and_offset_but_the_student_may_not() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    loss = FeatureMSE(normalise=True)
    scale, offset = torch.tensor([0.5, 3.0, 20.0]).view(3, 1, 1), torch.tensor([5.0, -2.0, 0.3]).view(3, 1, 1)
    expected = loss(student, teacher, None)
    assert loss(student, teacher * scale + offset, None).item() == pytest.approx(expected.item(), rel=1e-4)
    assert loss(2 * student, teacher, None) > 1.5 * expected


def test_points_are_compared_without_positions() -> None:
    # (N, C): differences 1, 0, 0, 2: 5 / 4.
    student, teacher = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0], [3.0, 2.0]])
    assert FeatureMSE()(student, teacher, None).item() == pytest.approx(1.25)
