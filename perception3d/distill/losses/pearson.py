"""PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient (arXiv 2207.02039)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.distill.losses.maps import paired_maps, resampling, standardise
from perception3d.registry import MODELS


def pearson_loss(student: Tensor, teacher: Tensor, resample: str | None = None) -> Tensor:
    """Half the mean squared error of two maps after their channels are given zero mean and unit variance.

    L = mean((n(S) - n(T))^2) / 2, n over batch, height and width. It is the mean over channels of 1 - r, r the Pearson
    correlation of a channel of the student with that of the teacher. Scale and offset of a channel do not matter.

    The variance is the biased one, for which that identity is exact; mmrazor divides by N - 1, so its value is smaller
    by (N - 1) / N, N = B H W. A channel that is constant in one of the two maps counts 1/2, in both 0.

    Args:
        student: map (B, C, H, W).
        teacher: map (B, C, H', W').
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Raises:
        InputError: the inputs are not maps of one batch with the same channels.
    """
    student, teacher = paired_maps(student, teacher, resample=resample)
    return (standardise(student) - standardise(teacher)).square().mean() / 2


@MODELS.register_module()
class PearsonFeatureKD(nn.Module):
    """`pearson_loss` as the loss of a link.

    Args:
        resample: of `pearson_loss`.
    """

    def __init__(self, resample: str | None = None) -> None:
        super().__init__()
        self.resample = resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of the maps `student` (B, C, H, W) and `teacher` (B, C, H', W')."""
        return pearson_loss(student, teacher, self.resample)
