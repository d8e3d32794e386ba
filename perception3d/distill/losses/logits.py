"""Distilling the Knowledge in a Neural Network (arXiv 1503.02531)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.losses.maps import paired_logits, positive, resampling, tempered_kl
from perception3d.registry import MODELS


def softmax_logits(student: Tensor, teacher: Tensor, resample: str | None = None) -> tuple[Tensor, Tensor]:
    """Checks and pairs the logits (B, K, ...) of a softmax over K classes as `paired_features`, the teacher's detached.

    Raises:
        InputError: for shapes that do not match, or for one class, whose softmax is always 1.
    """
    student, teacher = paired_logits(student, teacher, resample)
    if student.shape[1] == 1:
        raise InputError('a softmax over one class is always 1: for sigmoid scores take HeatmapKD')
    return student, teacher


@MODELS.register_module()
class LogitKL(nn.Module):
    """KL divergence of softened class probabilities.

    L = tau^2 * KL(softmax(T / tau) || softmax(S / tau)), classes on axis 1, mean over all other positions (samples,
    points or pixels).

    Args:
        tau: temperature.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """

    def __init__(self, tau: float = 1.0, resample: str | None = None) -> None:
        super().__init__()
        self.tau, self.resample = positive('tau', tau), resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of the logits `student` and `teacher` (B, K, ...); 0 where there are no positions.

        Raises:
            InputError: for shapes that do not match, or for one class.
        """
        student, teacher = softmax_logits(student, teacher, self.resample)
        loss = tempered_kl(teacher, student, self.tau, dim=1)
        return loss.sum() / max(loss.numel(), 1)
