"""Spatial-temporal distillation, first part: the map in which all cameras and moments are fused."""

from __future__ import annotations

from torch import Tensor, nn

from perception3d.distill.context import DistillContext
from perception3d.distill.losses.fused_kernels import HostImitation, can_imitate
from perception3d.distill.losses.maps import VARIANCE_EPS, paired_maps, resampling, standardise
from perception3d.distill.losses.pillars import pillar_weights
from perception3d.registry import MODELS


@MODELS.register_module()
class FusedFeatureKD(nn.Module):
    """Feature imitation on the fused bird's-eye map, weighted by how much the teacher sees in a pillar.

    L = mean over pillars p of W_p * mean over channels of (S_p - n(T_p))^2, where n standardises every channel of the
    teacher over batch and pillars, and W_p are `pillar_weights` of the teacher's class logits. The student's end wants
    an adapter (1x1 convolution), which learns the standardised scale; equal networks have loss 0 behind an identity
    with batch norm.

    Our formulation: the text of structured distillation for camera detectors (arXiv 2211.08398) is not public.

    Args:
        saliency: tap of the teacher's class logits (B, C, X, Y); None weighs all pillars alike.
        gamma: exponent of the scores in the weights.
        transposed: the logits are (Y, X).
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """

    def __init__(
        self,
        saliency: str | None = None,
        gamma: float = 1.0,
        transposed: bool = False,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.saliency, self.gamma, self.transposed = saliency, gamma, transposed
        self.resample = resampling(resample)
        self.teacher_taps = () if saliency is None else (saliency,)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Returns the scalar loss of maps (B, C, X, Y) of equal C."""
        student, teacher = paired_maps(student, teacher, resample=self.resample)
        weights = None
        if self.saliency is not None:
            weights = pillar_weights(context.teacher[self.saliency], student.shape[2:], self.gamma, self.transposed)
        if can_imitate(student, teacher, weights):
            return HostImitation.apply(student, teacher, weights, VARIANCE_EPS)
        gap = student - standardise(teacher)
        weighted = gap if weights is None else gap * weights
        # In this order, and with a sum, gradients keep the layout of the maps: a mean, of channels or all, would not.
        return (weighted * gap).sum() / gap.numel()
