"""Channel-wise Knowledge Distillation for Dense Prediction (arXiv 2011.13256)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.distill.losses.maps import paired_maps, positive, resampling, tempered_kl
from perception3d.registry import MODELS


@MODELS.register_module()
class ChannelWiseKD(nn.Module):
    """CWD: each channel as a distribution over the pixels, compared by KL divergence.

    L = tau^2 / C * sum over channels of KL(softmax_pixels(T_c / tau) || softmax_pixels(S_c / tau)), mean over the
    batch: mmrazor's normaliser. The value that a channel adds to all its pixels does not matter.

    Args:
        tau: temperature; 1 is mmrazor's default.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """

    def __init__(self, tau: float = 1.0, resample: str | None = None) -> None:
        super().__init__()
        self.tau, self.resample = positive('tau', tau), resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of the maps `student` (B, C, H, W) and `teacher` (B, C, H', W').

        Raises:
            InputError: for what are not maps of one batch with the same channels.
        """
        student, teacher = paired_maps(student, teacher, resample=self.resample)
        return tempered_kl(teacher.flatten(2), student.flatten(2), self.tau, dim=2).mean()
