"""LogitKL and BalanceDivergence on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from perception3d.checks import InputError
from perception3d.distill.losses.balance import BalanceDivergence
from perception3d.distill.losses.logits import LogitKL

# Teacher (0.75, 0.25), student (0.5, 0.5).
TEACHER, STUDENT = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
FORWARD = 0.130812  # 0.75 ln 1.5 + 0.25 ln 0.5 = 0.304099 - 0.173287
REVERSE = 0.143841  # 0.5 ln(0.5 / 0.75) + 0.5 ln(0.5 / 0.25) = -0.202733 + 0.346574


def test_forward_divergence_by_hand() -> None:
    assert LogitKL()(STUDENT, TEACHER, None).item() == pytest.approx(FORWARD, abs=1e-6)


def test_temperature_divides_logits_and_multiplies_the_loss_by_its_square() -> None:
    assert LogitKL(tau=3.0)(STUDENT, 3 * TEACHER, None).item() == pytest.approx(9 * FORWARD, abs=1e-5)


def test_loss_is_the_mean_over_samples_and_pixels() -> None:
    student, teacher = torch.zeros(2, 2, 1, 3), torch.zeros(2, 2, 1, 3)
    teacher[1, 0, 0, 2] = math.log(3)
    assert LogitKL()(student, teacher, None).item() == pytest.approx(FORWARD / 6, abs=1e-6)


def test_gradient_keeps_its_size_at_a_high_temperature() -> None:
    # At a high temperature the gradient of the loss is (S - T, each less its mean) / K: arXiv 1503.02531, equation 4.
    student = torch.tensor([[0.3, -0.2, 0.5]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0, -0.4]])
    LogitKL(tau=1000.0)(student, teacher, None).backward()
    # S less 0.2: 0.1, -0.4, 0.3. T less 0.2: 0.8, -0.2, -0.6. Differences -0.7, -0.2, 0.9, over 3.
    assert student.grad[0].tolist() == pytest.approx([-0.7 / 3, -0.2 / 3, 0.3], abs=2e-3)


def test_balance_by_hand() -> None:
    assert BalanceDivergence()(STUDENT, TEACHER, None).item() == pytest.approx(FORWARD + REVERSE, abs=1e-6)
    half = BalanceDivergence(reverse_weight=0.5)(STUDENT, TEACHER, None).item()
    assert half == pytest.approx(FORWARD + REVERSE / 2, abs=1e-6)


def test_each_term_of_the_balance_has_its_own_temperature() -> None:
    # The reverse term at temperature 2 sees logits 2 ln 3 and 0, and counts 4 times; the forward term sees them whole:
    # (0.9, 0.1), KL to (0.5, 0.5) = 0.9 ln 1.8 + 0.1 ln 0.2 = 0.529008 - 0.160944.
    loss = BalanceDivergence(tau=1.0, reverse_tau=2.0)(STUDENT, 2 * TEACHER, None)
    assert loss.item() == pytest.approx(0.368064 + 4 * REVERSE, abs=1e-5)


def test_the_reverse_term_is_sensitive_to_a_class_of_low_teacher_probability() -> None:
    # The teacher gives the last class e^-20; the student gives it 1 %.
    teacher, student = torch.tensor([[0.0, 0.0, -20.0]]), torch.tensor([[0.0, 0.0, math.log(0.02 / 0.99)]])
    student.requires_grad_()
    gradients = []
    for weight in (0.0, 1.0):
        loss = BalanceDivergence(reverse_weight=weight)(student, teacher, None)
        gradients.append(torch.autograd.grad(loss, student)[0][0, 2].item())
    # Forward alone pushes by the probability, 0.01; the reverse term adds 0.01 (ln(0.01 / e^-20) - KL(S || T)).
    assert gradients[0] == pytest.approx(0.01, abs=1e-4)
    assert gradients[1] > 10 * gradients[0]


def test_one_class_is_an_error_that_names_the_loss_for_it() -> None:
    for loss in (LogitKL(), BalanceDivergence()):
        with pytest.raises(InputError, match='HeatmapKD'):
            loss(torch.zeros(2, 1, 3, 3), torch.ones(2, 1, 3, 3), None)
