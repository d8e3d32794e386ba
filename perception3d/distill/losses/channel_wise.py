"""Channel-wise Knowledge Distillation for Dense Prediction (CWD, arXiv 2011.13256)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.distill.losses.maps import paired_maps, positive, resampling, tempered_kl
from perception3d.registry import MODELS


def channel_wise_loss(student: Tensor, teacher: Tensor, tau: float = 1.0, resample: str | None = None) -> Tensor:
    """KL divergence between the channels of two maps, each channel taken as a distribution over the pixels.

    L = tau^2 / C * sum over channels of KL(softmax_pixels(T_c / tau) || softmax_pixels(S_c / tau)), mean over the
    batch: the normalisation of mmrazor. A constant that is added to all pixels of a channel does not matter.

    Args:
        student: map (B, C, H, W).
        teacher: map (B, C, H', W').
        tau: temperature; 1 is mmrazor's default.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Raises:
        InputError: the inputs are not maps of one batch with the same channels.
    """
    student, teacher = paired_maps(student, teacher, resample=resample)
    return tempered_kl(teacher.flatten(2), student.flatten(2), tau, dim=2).mean()


@MODELS.register_module()
class ChannelWiseKD(nn.Module):
    """`channel_wise_loss` as the loss of a link.

    Args:
        tau, resample: of `channel_wise_loss`.
    """

    def __init__(self, tau: float = 1.0, resample: str | None = None) -> None:
        super().__init__()
        self.tau, self.resample = positive('tau', tau), resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of the maps `student` (B, C, H, W) and `teacher` (B, C, H', W')."""
        return channel_wise_loss(student, teacher, self.tau, self.resample)
