"""AttentionTransfer on numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from perception3d.distill.losses.attention_transfer import AttentionTransfer


def test_squared_activations_by_hand() -> None:
    # Two pixels. Sums of squares over channels: student 1 + 1 + 1 = 3 and 4 + 0 + 0 = 4, of length 5: 0.6, 0.8.
    student = torch.tensor([[[[1.0, -2.0]], [[-1.0, 0.0]], [[1.0, 0.0]]]])
    # Teacher, one channel: 0 and 25, of length 25: 0, 1.
    teacher = torch.tensor([[[[0.0, 5.0]]]])
    # (0.36 + 0.04) / 2 pixels.
    assert AttentionTransfer()(student, teacher, None).item() == pytest.approx(0.2)


def test_absolute_activations_by_hand() -> None:
    # |3|, |-4|: 0.6, 0.8 against 1, 0: (0.16 + 0.64) / 2 pixels; the second sample is equal: half of that.
    student = torch.tensor([[[[3.0, -4.0]]], [[[7.0, 7.0]]]])
    teacher = torch.tensor([[[[5.0, 0.0]]], [[[-2.0, 2.0]]]])
    assert AttentionTransfer(p=1)(student, teacher, None).item() == pytest.approx(0.2)


def test_a_map_without_any_activation_counts_as_no_attention() -> None:
    student = torch.zeros(1, 2, 2, 2, requires_grad=True)
    teacher = torch.zeros(1, 2, 2, 2)
    teacher[0, 0, 1, 1] = 3.0
    # Attention 0, 0, 0, 1 against nothing: 1 / 4 pixels.
    assert AttentionTransfer()(student, teacher, None).item() == pytest.approx(0.25)
