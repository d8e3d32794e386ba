"""Paying More Attention to Attention: Improving CNNs via Attention Transfer (arXiv 1612.03928)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.losses.maps import paired_maps, resampling
from perception3d.registry import MODELS


def attention_transfer_loss(student: Tensor, teacher: Tensor, p: float = 2.0, resample: str | None = None) -> Tensor:
    """Difference of the activation-based spatial attention of two maps (section 3.1 of the paper).

    Q(F) = sum over channels of |F|^p, flattened to (B, H W); L = mean((Q_S / ||Q_S||_2 - Q_T / ||Q_T||_2)^2) over batch
    and pixels. Equation 2 of the paper has the plain 2-norm of that difference; this is the mean square of the released
    code, because the released weight (beta = 1000) belongs to it, and its gradient is smooth at zero. The numbers of
    channels may differ; the scale of either map does not matter.

    Args:
        student: map (B, C, H, W).
        teacher: map (B, C', H', W').
        p: power of the activations; 2 in the released code.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Raises:
        InputError: the inputs are not maps of one batch.
    """
    student, teacher = paired_maps(student, teacher, same_channels=False, resample=resample)
    return (_attention(student, p) - _attention(teacher, p)).square().mean()


def _attention(features: Tensor, p: float) -> Tensor:
    return F.normalize(features.abs().pow(p).sum(1).flatten(1))


@MODELS.register_module()
class AttentionTransfer(nn.Module):
    """`attention_transfer_loss` as the loss of a link.

    Args:
        p, resample: of `attention_transfer_loss`.
    """

    def __init__(self, p: float = 2.0, resample: str | None = None) -> None:
        super().__init__()
        if p < 1:
            raise InputError(f'p must be at least 1, got {p}')
        self.p, self.resample = p, resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of the maps `student` (B, C, H, W) and `teacher` (B, C', H', W')."""
        return attention_transfer_loss(student, teacher, self.p, self.resample)
