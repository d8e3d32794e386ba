"""Balance Divergence for Knowledge Distillation (arXiv 2501.07804)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.losses.logits import softmax_logits
from perception3d.distill.losses.maps import positive, resampling, tempered_kl
from perception3d.registry import MODELS


def balance_divergence_loss(
    student: Tensor,
    teacher: Tensor,
    tau: float = 1.0,
    reverse_tau: float | None = None,
    reverse_weight: float = 1.0,
    resample: str | None = None,
) -> Tensor:
    """Forward plus reverse KL divergence of softened class probabilities.

    L = tau^2 KL(p_T || p_S) + w * tau_r^2 KL(p_S || p_T), the softmax of each term at its own temperature, classes on
    axis 1, mean over all other positions. The reverse term is sensitive to the classes to which the teacher gives
    almost no probability; the forward term hardly is.

    What the paper's abstract says: a reverse KL divergence compensates the forward one, and the temperatures are
    adjusted to balance them further. The weighted sum, the factors tau^2 and the default values are our reading; the
    paper's equations were not available to us.

    Args:
        student: logits (B, K, ...).
        teacher: logits (B, K, ...).
        tau: temperature of the forward term.
        reverse_tau: temperature of the reverse term; None for `tau`.
        reverse_weight: w; with 0 the loss is `logit_kl_loss`.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Returns:
        Scalar; 0 where there are no positions.

    Raises:
        InputError: shapes that do not match, or one class.
    """
    student, teacher = softmax_logits(student, teacher, resample)
    loss = tempered_kl(teacher, student, tau, dim=1)
    loss = loss + reverse_weight * tempered_kl(student, teacher, tau if reverse_tau is None else reverse_tau, dim=1)
    return loss.sum() / max(loss.numel(), 1)


@MODELS.register_module()
class BalanceDivergence(nn.Module):
    """`balance_divergence_loss` as the loss of a link.

    Args:
        tau, reverse_tau, reverse_weight, resample: of `balance_divergence_loss`.
    """

    def __init__(
        self,
        tau: float = 1.0,
        reverse_tau: float | None = None,
        reverse_weight: float = 1.0,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.tau = positive('tau', tau)
        self.reverse_tau = self.tau if reverse_tau is None else positive('reverse_tau', reverse_tau)
        if reverse_weight < 0:
            raise InputError(f'reverse_weight must be 0 or more, got {reverse_weight}')
        self.reverse_weight, self.resample = reverse_weight, resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of logits (B, K, ...)."""
        return balance_divergence_loss(student, teacher, self.tau, self.reverse_tau, self.reverse_weight, self.resample)
