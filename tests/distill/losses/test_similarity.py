"""The losses that compare the samples of a batch: similarity preserving and correlation congruence."""

from __future__ import annotations

import math

import pytest
import torch

from perception3d.distill.losses.correlation import CorrelationCongruence
from perception3d.distill.losses.similarity import SimilarityPreserving


def test_similarity_by_hand() -> None:
    # Student (1, 0), (1, 1): G = (1, 1), (1, 2), rows of length sqrt 2 and sqrt 5. Teacher: G = 1 on the diagonal.
    student, teacher = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    # Row 0: (1 - 1/sqrt 2)^2 + 1/2 = 2 - sqrt 2 = 0.585786. Row 1: 1/5 + (1 - 2/sqrt 5)^2 = 2 - 4/sqrt 5 = 0.211146.
    assert SimilarityPreserving()(student, teacher, None).item() == pytest.approx(0.796932 / 4, abs=1e-6)


def test_similarity_of_maps_is_that_of_their_flattened_values() -> None:
    student, teacher = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    loss = SimilarityPreserving()(student.view(2, 1, 2, 1), teacher.view(2, 3, 1, 1), None)
    assert loss.item() == pytest.approx(0.796932 / 4, abs=1e-6)


def test_correlation_by_hand() -> None:
    # Off the diagonal the student's embeddings have the product 0, the teacher's (of any length) 1:
    # e^-0.8 * 1 against e^-0.8 * (1 + 0.8 + 0.8^2 / 2) = e^-0.8 * 2.12; on it both have 1.
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 7.0]]), torch.tensor([[3.0, 4.0], [0.6, 0.8]])
    # Twice (0.449329 * 1.12)^2 = 0.253259, over n^2 = 4.
    assert CorrelationCongruence()(student, teacher, None).item() == pytest.approx(0.126629, abs=1e-6)


def test_correlation_of_high_order_is_the_gaussian() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    kernels = []
    for x in (student, teacher):
        unit = x / x.norm(dim=1, keepdim=True)
        kernels.append(torch.exp(-0.7 * torch.cdist(unit, unit) ** 2))
    expected = ((kernels[0] - kernels[1]) ** 2).sum().item() / 25
    assert CorrelationCongruence(gamma=0.7, order=25)(student, teacher, None).item() == pytest.approx(
        expected, rel=1e-9
    )
    coarse = CorrelationCongruence(gamma=0.7, order=1)(student, teacher, None).item()
    assert not math.isclose(coarse, expected, rel_tol=0.01)


def test_correlation_of_maps_is_that_of_their_means() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(4, 3, 2, 5, generator=generator), torch.randn(4, 6, 3, 3, generator=generator)
    loss = CorrelationCongruence()
    expected = loss(student.mean((2, 3)), teacher.mean((2, 3)), None).item()
    assert loss(student, teacher, None).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('loss', [SimilarityPreserving(), CorrelationCongruence()])
def test_a_rotation_of_the_channels_does_not_matter(loss: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    assert loss(features @ rotation, features, None).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize('loss', [SimilarityPreserving(), CorrelationCongruence()])
def test_one_dead_sample_among_others_has_a_bounded_gradient(loss: torch.nn.Module) -> None:
    student = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    loss(student, torch.tensor([[3.0, 1.0], [1.0, 1.0]]), None).backward()
    assert student.grad.isfinite().all() and student.grad.abs().max() < 1e7


@pytest.mark.parametrize('loss', [SimilarityPreserving(), CorrelationCongruence()])
def test_a_batch_of_one_warns_that_its_loss_is_zero(loss: torch.nn.Module) -> None:
    with pytest.warns(UserWarning, match='batch of one'):
        assert loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]]), None).item() == pytest.approx(0, abs=1e-12)
