"""Correlation Congruence for Knowledge Distillation (CCKD, arXiv 1904.01802)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.losses.maps import paired_samples, positive, unit_rows
from perception3d.registry import MODELS


def correlation_congruence_loss(student: Tensor, teacher: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Difference of the kernel matrices between the samples of a batch.

    Embeddings f of length 1; the kernel is the Gaussian exp(-gamma |f_i - f_j|^2) = exp(-2 gamma) exp(2 gamma f_i.f_j)
    with the second factor expanded at 0 to order P:

        C_ij = exp(-2 gamma) * sum over p = 0..P of (2 gamma)^p / p! * (f_i.f_j)^p
        L = sum over i, j of (C_S,ij - C_T,ij)^2 / n^2

    Maps (B, C, ...) become embeddings (B, C) by their mean over all positions. Channels may differ, and the scale of
    either side does not matter. This is only the congruence term; the paper adds it to a loss on each sample.

    The formula and the values 0.4 and 2 are those that public implementations agree on. RepDistiller has a different
    version, sent by an author, that multiplies the differences of neighbouring samples of the batch.

    n is the batch of one process: with one sample the loss is 0 and has no effect.

    Args:
        student: features (B, C, ...).
        teacher: features (B, C', ...).
        gamma: of the Gaussian.
        order: P, the highest power of the expansion.

    Raises:
        InputError: different batch sizes.
    """
    student, teacher = paired_samples(student, teacher)
    return (_correlation(student, gamma, order) - _correlation(teacher, gamma, order)).square().mean()


def _correlation(features: Tensor, gamma: float, order: int) -> Tensor:
    """Matrix (B, B) of the kernel's expansion."""
    embedding = unit_rows(features.flatten(2).mean(2) if features.dim() > 2 else features)
    exponent = 2 * gamma * (embedding @ embedding.T)
    series = torch.ones_like(exponent)
    for p in range(order, 0, -1):
        series = 1 + series * exponent / p
    return math.exp(-2 * gamma) * series


@MODELS.register_module()
class CorrelationCongruence(nn.Module):
    """`correlation_congruence_loss` as the loss of a link.

    Args:
        gamma, order: of `correlation_congruence_loss`.
    """

    def __init__(self, gamma: float = 0.4, order: int = 2) -> None:
        super().__init__()
        self.gamma = positive('gamma', gamma)
        if order < 1:
            raise InputError(f'order must be at least 1, got {order}')
        self.order = order

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of `student` (B, C, ...) and `teacher` (B, C', ...)."""
        return correlation_congruence_loss(student, teacher, self.gamma, self.order)
