"""Distilling the Knowledge in a Neural Network (arXiv 1503.02531)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.losses.maps import paired_logits, positive, resampling, tempered_kl
from perception3d.registry import MODELS


def softmax_logits(student: Tensor, teacher: Tensor, resample: str | None = None) -> tuple[Tensor, Tensor]:
    """Checks the logits (B, K, ...) of a softmax over K classes, and pairs them as `paired_logits` does.

    Raises:
        InputError: shapes that do not match, or one class, whose softmax is always 1.
    """
    student, teacher = paired_logits(student, teacher, resample)
    if student.shape[1] == 1:
        raise InputError('a softmax over one class is always 1: for sigmoid scores use HeatmapKD')
    return student, teacher


def logit_kl_loss(student: Tensor, teacher: Tensor, tau: float = 1.0, resample: str | None = None) -> Tensor:
    """KL divergence of class probabilities that are softened by a temperature.

    L = tau^2 * KL(softmax(T / tau) || softmax(S / tau)), classes on axis 1, mean over all other positions (samples,
    points or pixels).

    Args:
        student: logits (B, K, ...).
        teacher: logits (B, K, ...).
        tau: temperature.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Returns:
        Scalar; 0 where there are no positions.

    Raises:
        InputError: shapes that do not match, or one class.
    """
    student, teacher = softmax_logits(student, teacher, resample)
    loss = tempered_kl(teacher, student, tau, dim=1)
    return loss.sum() / max(loss.numel(), 1)


@MODELS.register_module()
class LogitKL(nn.Module):
    """`logit_kl_loss` as the loss of a link.

    Args:
        tau, resample: of `logit_kl_loss`.
    """

    def __init__(self, tau: float = 1.0, resample: str | None = None) -> None:
        super().__init__()
        self.tau, self.resample = positive('tau', tau), resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of logits (B, K, ...)."""
        return logit_kl_loss(student, teacher, self.tau, self.resample)
