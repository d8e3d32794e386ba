"""Similarity-Preserving Knowledge Distillation (arXiv 1907.09682)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.distill.losses.maps import paired_samples, unit_rows
from perception3d.registry import MODELS


@MODELS.register_module()
class SimilarityPreserving(nn.Module):
    """Which samples of the batch resemble each other, compared between student and teacher.

    G = F F^T with F (B, D) the flattened outputs, each row of G divided by its 2-norm;
    L = ||G_T - G_S||_F^2 / B^2. Channels and sizes may differ, and the scale of either side does not matter.

    B is the batch of one process: with one sample the loss is 0 and teaches nothing.
    """

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of `student` (B, ...) and `teacher` (B, ...).

        Raises:
            InputError: for another B.
        """
        student, teacher = paired_samples(student, teacher)
        return (self._similarity(teacher) - self._similarity(student)).square().mean()

    def _similarity(self, features: Tensor) -> Tensor:
        flat = features.flatten(1)
        return unit_rows(flat @ flat.T)
