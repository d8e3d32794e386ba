"""OFD: A Comprehensive Overhaul of Feature Distillation (arXiv 1904.01866)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.distill.losses.maps import paired_features, resampling
from perception3d.registry import MODELS


def overhaul_loss(student: Tensor, teacher: Tensor, resample: str | None = None) -> Tensor:
    """Partial squared distance to the teacher's features before their ReLU, after a margin ReLU.

    With T'_c = max(T_c, m_c), m_c the mean of the negative values of channel c of the teacher:

        L = mean over all elements of (S - T')^2 where S > T' or T' > 0, else 0

    Where both S and T' are negative and S is below T', the loss is 0: the ReLU that follows sets both to 0.
    Features are best taken before a ReLU. After one the margins are 0, and only the partial distance is left of the
    method.

    The margins are those of the batch; the released code computes them in closed form from the scales and offsets of
    the teacher's batch norm, assuming normally distributed outputs. It sums where this function takes the mean, and
    divides by the batch, by 1000 and by 2 for every stage before the last.

    Args:
        student: features (B, C, ...) after the paper's transform, a 1x1 convolution with batch norm.
        teacher: features (B, C, ...).
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Raises:
        InputError: shapes that do not match.
    """
    student, teacher = paired_features(student, teacher, resample=resample)
    others = [axis for axis in range(teacher.dim()) if axis != 1]
    negative = teacher < 0
    margin = (teacher * negative).sum(others, keepdim=True) / negative.sum(others, keepdim=True).clamp(min=1)
    target = teacher.maximum(margin)
    counts = (student > target) | (target > 0)
    return ((student - target).square() * counts).sum() / max(student.numel(), 1)


@MODELS.register_module()
class OverhaulKD(nn.Module):
    """`overhaul_loss` as the loss of a link, with the paper's transform as adapter: dict(type=ConvAdapter, norm=True).

    Args:
        resample: of `overhaul_loss`.
    """

    def __init__(self, resample: str | None = None) -> None:
        super().__init__()
        self.resample = resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of features (B, C, ...)."""
        return overhaul_loss(student, teacher, self.resample)
