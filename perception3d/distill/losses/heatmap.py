"""SparseKD: Towards Efficient 3D Object Detection with Knowledge Distillation (arXiv 2205.15156)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.losses.maps import choice, paired_logits, resampling
from perception3d.registry import MODELS


def heatmap_loss(
    student: Tensor, teacher: Tensor, mask: str = 'soft', score_thr: float = 0.0, resample: str | None = None
) -> Tensor:
    """Squared error of heatmap scores where the teacher has a high score (the pivotal positions of SparseKD).

    With scores s = sigmoid(logits), and for each pixel m = max over classes of s_T where that is at least `score_thr`,
    else 0:

        L = sum over pixels of m * sum over classes of (s_S - s_T)^2 / (sum over pixels of m)

    over the whole batch of one process. As in the released code, whose recipes weigh this loss by 7 (pillars), 10 or 15
    (voxels), the normaliser is the sum of the mask, not multiplied by the number of classes.

    The released recipes differ from this loss in three ways: they also multiply the mask by the Gaussian of the
    ground truth; they resize the student's scores to the teacher's size, where this function can resize the teacher's
    logits to the student's; and they clamp scores to 1e-4..1 - 1e-4.

    Args:
        student: logits (B, K, H, W), or (B, K, ...) of anchors or points.
        teacher: logits (B, K, H', W'), or (B, K, ...).
        mask: 'soft' for m as above; 'none' for 1 instead of m, so that all kept pixels have the same weight.
        score_thr: pixels whose best teacher score is lower are ignored; the released recipes have 0.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Returns:
        Scalar; 0 where no pixel is kept.

    Raises:
        InputError: a different batch or other classes, or an unknown mask.
    """
    choice('mask', mask, ('soft', 'none'))
    student, teacher = paired_logits(student, teacher, resample)
    target = teacher.sigmoid()
    peak = target.amax(1)
    weight = (peak >= score_thr).to(peak.dtype)
    if mask == 'soft':
        weight = weight * peak
    error = (student.sigmoid() - target).square().sum(1)
    return (weight * error).sum() / weight.sum().clamp(min=1e-6)


@MODELS.register_module()
class HeatmapKD(nn.Module):
    """`heatmap_loss` as the loss of a link.

    Args:
        mask, score_thr, resample: of `heatmap_loss`.
    """

    def __init__(self, mask: str = 'soft', score_thr: float = 0.0, resample: str | None = None) -> None:
        super().__init__()
        if not 0 <= score_thr < 1:
            raise InputError(f'score_thr is a score: it must be in [0, 1), got {score_thr}')
        self.mask, self.score_thr = choice('mask', mask, ('soft', 'none')), score_thr
        self.resample = resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of logits (B, K, ...)."""
        return heatmap_loss(student, teacher, self.mask, self.score_thr, self.resample)
