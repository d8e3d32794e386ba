"""Spatial-temporal distillation, first part: imitates the BEV map in which all cameras and frames are fused."""

from __future__ import annotations

from torch import Tensor, nn

from perception3d.distill.context import DistillContext
from perception3d.distill.losses.fused_kernels import CpuImitation, can_imitate
from perception3d.distill.losses.maps import VARIANCE_EPS, paired_maps, require_map, resampling, standardise
from perception3d.distill.losses.pillars import pillar_weights
from perception3d.registry import MODELS


def fused_feature_loss(
    student: Tensor, teacher: Tensor, weights: Tensor | None = None, resample: str | None = None
) -> Tensor:
    """Imitation of a BEV feature map, weighted by pillar.

    L = mean over pillars p of W_p * mean over channels of (S_p - n(T_p))^2, where n standardises every channel of the
    teacher over batch and pillars.

    Our formulation: the text of structured distillation for camera detectors (arXiv 2211.08398) is not public.

    Args:
        student: map (B, C, X, Y), after an adapter that learns the standardised scale.
        teacher: map (B, C, X', Y').
        weights: W (B, 1, X, Y), such as `pillar_weights`; None for 1.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Raises:
        InputError: the inputs are not maps of one batch with the same channels.
    """
    student, teacher = paired_maps(student, teacher, resample=resample)
    if can_imitate(student, teacher, weights):
        return CpuImitation.apply(student, teacher, weights, VARIANCE_EPS)
    gap = student - standardise(teacher)
    weighted = gap if weights is None else gap * weights
    # In this order, and with a sum, gradients keep the memory layout of the maps; with a mean they would not.
    return (weighted * gap).sum() / gap.numel()


@MODELS.register_module()
class FusedFeatureKD(nn.Module):
    """`fused_feature_loss` on fused BEV maps, weighted by the teacher's class scores.

    The student's end of the link needs an adapter (1x1 convolution). Between equal networks the loss is 0 with an
    adapter that is the identity followed by batch norm.

    Args:
        saliency: tap of the teacher's class logits (B, C, X, Y), for weights W by `pillar_weights`; None for equal
            weights.
        gamma: exponent of the scores in the weights.
        transposed: the logits are (Y, X).
        resample: of `fused_feature_loss`.
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

    def weights(self, student: Tensor, context: DistillContext) -> Tensor | None:
        """Weights (B, 1, X, Y) of the pillars of the student's map; None for equal weights."""
        if self.saliency is None:
            return None
        require_map(student)
        return pillar_weights(context.teacher[self.saliency], student.shape[2:], self.gamma, self.transposed)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of maps (B, C, X, Y)."""
        return fused_feature_loss(student, teacher, self.weights(student, context), self.resample)
