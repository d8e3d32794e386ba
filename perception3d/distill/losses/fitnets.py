"""FitNets: Hints for Thin Deep Nets (arXiv 1412.6550)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.distill.losses.maps import paired_features, resampling, standardise
from perception3d.registry import MODELS


@MODELS.register_module()
class FeatureMSE(nn.Module):
    """Mean squared error of features: L = mean((S - T)^2) over batch, channels and positions.

    The hint loss of FitNets (equation 3 there, 1/2 ||T - r(S)||^2) with the mean in place of the half sum; r, the
    regressor, is the link's adapter. Features (B, C, ...).

    Args:
        normalise: give each channel of the teacher zero mean and unit variance over batch and positions first, so that
            no channel weighs more for its scale. The student's stay as they are. Not in the paper.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """

    def __init__(self, normalise: bool = False, resample: str | None = None) -> None:
        super().__init__()
        self.normalise, self.resample = normalise, resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of `student` and `teacher` (B, C, ...); 0 where there are no positions.

        Raises:
            InputError: for shapes that do not match.
        """
        student, teacher = paired_features(student, teacher, resample=self.resample)
        if self.normalise:
            teacher = standardise(teacher)
        return (student - teacher).square().sum() / max(student.numel(), 1)
