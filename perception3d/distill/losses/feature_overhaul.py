"""OFD: A Comprehensive Overhaul of Feature Distillation (arXiv 1904.01866)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.distill.losses.maps import paired_features, resampling
from perception3d.registry import MODELS


@MODELS.register_module()
class OverhaulKD(nn.Module):
    """Partial squared distance to the teacher's features before their ReLU, behind a margin ReLU.

    With T'_c = max(T_c, m_c), m_c the mean of the negative values of channel c of the teacher:

        L = mean over all elements of (S - T')^2 where S > T' or T' > 0, else 0

    A student who is below where the teacher is below zero is left alone: the ReLU behind makes both 0. The student's
    end wants the paper's transform as the link's adapter, a 1x1 convolution with batch norm:
    dict(type=ConvAdapter, norm=True). Features are best tapped before a ReLU. Behind one the margins are 0, and what is
    left of the method is the partial distance.

    The margins are those of the batch; the released code has them in closed form from the scales and offsets of the
    teacher's batch norm, as if its outputs were normal numbers. It sums where this takes the mean, and divides by the
    batch, by 1000 and by 2 for every stage before the last.

    Args:
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """

    def __init__(self, resample: str | None = None) -> None:
        super().__init__()
        self.resample = resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of `student` and `teacher` (B, C, ...).

        Raises:
            InputError: for shapes that do not match.
        """
        student, teacher = paired_features(student, teacher, resample=self.resample)
        others = [axis for axis in range(teacher.dim()) if axis != 1]
        below = teacher < 0
        margin = (teacher * below).sum(others, keepdim=True) / below.sum(others, keepdim=True).clamp(min=1)
        target = teacher.maximum(margin)
        counts = (student > target) | (target > 0)
        return ((student - target).square() * counts).sum() / max(student.numel(), 1)
