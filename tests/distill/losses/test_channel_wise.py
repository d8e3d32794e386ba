"""ChannelWiseKD on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from perception3d.distill.losses.channel_wise import ChannelWiseKD

# KL((0.75, 0.25) || (0.5, 0.5)) = 0.75 ln 1.5 + 0.25 ln 0.5 = 0.304099 - 0.173287.
KL = 0.130812


def test_one_channel_by_hand() -> None:
    student, teacher = torch.zeros(1, 1, 1, 2), torch.tensor([[[[math.log(3), 0.0]]]])
    assert ChannelWiseKD()(student, teacher, None).item() == pytest.approx(KL, abs=1e-6)


def test_temperature_divides_logits_and_multiplies_the_loss_by_its_square() -> None:
    student, teacher = torch.zeros(1, 1, 2, 1), torch.tensor([[[[2 * math.log(3)], [0.0]]]])
    assert ChannelWiseKD(tau=2.0)(student, teacher, None).item() == pytest.approx(4 * KL, abs=1e-6)


def test_loss_is_the_mean_over_channels_and_samples() -> None:
    student, teacher = torch.zeros(2, 3, 1, 2), torch.zeros(2, 3, 1, 2)
    teacher[1, 2, 0, 0] = math.log(3)
    assert ChannelWiseKD()(student, teacher, None).item() == pytest.approx(KL / 6, abs=1e-6)


def test_offset_of_a_channel_does_not_matter_but_its_scale_does() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    loss, offset = ChannelWiseKD(), torch.tensor([5.0, -2.0, 0.3]).view(3, 1, 1)
    expected = loss(student, teacher, None).item()
    assert loss(student + offset, teacher - offset, None).item() == pytest.approx(expected, rel=1e-4)
    assert loss(student, 2 * teacher, None).item() > 1.2 * expected
