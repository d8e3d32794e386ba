"""FitNets: Hints for Thin Deep Nets (arXiv 1412.6550)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.distill.losses.maps import paired_features, resampling, standardise
from perception3d.registry import MODELS


def fitnets_loss(student: Tensor, teacher: Tensor, normalise: bool = False, resample: str | None = None) -> Tensor:
    """Mean squared error of features: L = mean((S - T)^2) over batch, channels and positions.

    The hint loss of FitNets (equation 3 there, 1/2 ||T - r(S)||^2) with the mean instead of half the sum.

    Args:
        student: r(S), features (B, C, ...) after the regressor.
        teacher: features (B, C, ...).
        normalise: first give each channel of the teacher zero mean and unit variance over batch and positions, so that
            all channels have the same weight. The student's are not changed. Not in the paper.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Returns:
        Scalar; 0 where there are no positions.

    Raises:
        InputError: shapes that do not match.
    """
    student, teacher = paired_features(student, teacher, resample=resample)
    if normalise:
        teacher = standardise(teacher)
    return (student - teacher).square().sum() / max(student.numel(), 1)


@MODELS.register_module()
class FeatureMSE(nn.Module):
    """`fitnets_loss` as the loss of a link; the regressor r is the link's adapter.

    Args:
        normalise, resample: of `fitnets_loss`.
    """

    def __init__(self, normalise: bool = False, resample: str | None = None) -> None:
        super().__init__()
        self.normalise, self.resample = normalise, resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of features (B, C, ...)."""
        return fitnets_loss(student, teacher, self.normalise, self.resample)
