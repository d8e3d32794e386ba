"""Similarity-Preserving Knowledge Distillation (arXiv 1907.09682)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.distill.losses.maps import paired_samples, unit_rows
from perception3d.registry import MODELS


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Difference of the similarities between the samples of a batch.

    G = F F^T with F (B, D) the flattened features, each row of G divided by its 2-norm;
    L = ||G_T - G_S||_F^2 / B^2. Channels and sizes may differ, and the scale of either side does not matter.

    B is the batch of one process: with one sample the loss is 0 and has no effect.

    Args:
        student: features (B, ...).
        teacher: features (B, ...).

    Raises:
        InputError: different batch sizes.
    """
    student, teacher = paired_samples(student, teacher)
    return (_similarity(teacher) - _similarity(student)).square().mean()


def _similarity(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return unit_rows(flat @ flat.T)


@MODELS.register_module()
class SimilarityPreserving(nn.Module):
    """`similarity_loss` as the loss of a link."""

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of features (B, ...)."""
        return similarity_loss(student, teacher)
