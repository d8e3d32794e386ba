"""PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient (arXiv 2207.02039)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.distill.losses.maps import paired_maps, resampling, standardise
from perception3d.registry import MODELS


@MODELS.register_module()
class PearsonFeatureKD(nn.Module):
    """PKD: half the mean squared error of maps whose channels have zero mean and unit variance.

    L = mean((n(S) - n(T))^2) / 2, n over batch, height and width. It is the mean over channels of 1 - r, r the Pearson
    correlation of a channel of the student with that of the teacher. Scale and offset of a channel do not matter.

    The variance is the biased one, for which that identity is exact; mmrazor divides by N - 1 and so has a value
    smaller by (N - 1) / N, N = B H W. A channel that is constant in one of the two counts 1/2, in both 0.

    Args:
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """

    def __init__(self, resample: str | None = None) -> None:
        super().__init__()
        self.resample = resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of the maps `student` (B, C, H, W) and `teacher` (B, C, H', W').

        Raises:
            InputError: for what are not maps of one batch with the same channels.
        """
        student, teacher = paired_maps(student, teacher, resample=self.resample)
        return (standardise(student) - standardise(teacher)).square().mean() / 2
