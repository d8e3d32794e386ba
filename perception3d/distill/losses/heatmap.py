"""SparseKD: Towards Efficient 3D Object Detection with Knowledge Distillation (arXiv 2205.15156)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perception3d.checks import InputError, unknown_name
from perception3d.distill.losses.maps import paired_logits, resampling
from perception3d.registry import MODELS


@MODELS.register_module()
class HeatmapKD(nn.Module):
    """Squared error of heatmap scores where the teacher sees something (the pivotal positions of SparseKD).

    With scores s = sigmoid(logits), and for each pixel m = max over classes of s_T where that is at least `score_thr`,
    else 0:

        L = sum over pixels of m * sum over classes of (s_S - s_T)^2 / (sum over pixels of m)

    over the whole batch of one process. The normaliser is the sum of the mask, not times the number of classes, as in
    the released code, whose recipes weigh this loss by 7 (pillars), 10 or 15 (voxels).

    The released recipes differ from this loss in three ways: they also multiply the mask by the Gaussian of the
    ground truth; they resize the student's scores to the teacher's size, where this may resize the teacher's logits to
    the student's; and they cut scores to 1e-4..1 - 1e-4.

    Args:
        mask: 'soft' for m as above; 'none' for 1 in its place, so that every kept pixel weighs the same.
        score_thr: pixels whose best teacher score is lower take no part; the released recipes have 0.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """

    def __init__(self, mask: str = 'soft', score_thr: float = 0.0, resample: str | None = None) -> None:
        super().__init__()
        if mask not in ('soft', 'none'):
            raise unknown_name('mask', mask, ('soft', 'none'))
        if not 0 <= score_thr < 1:
            raise InputError(f'score_thr is a score: it must be in [0, 1), got {score_thr}')
        self.mask, self.score_thr, self.resample = mask, score_thr, resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: Any = None) -> Tensor:
        """Scalar loss of the logits `student` (B, K, H, W) and `teacher` (B, K, H', W'); 0 where no pixel is kept.

        Logits (B, K, ...) of anchors or points do as well.

        Raises:
            InputError: for another batch or other classes.
        """
        student, teacher = paired_logits(student, teacher, self.resample)
        target = teacher.sigmoid()
        peak = target.amax(1)
        weight = (peak >= self.score_thr).to(peak.dtype)
        if self.mask == 'soft':
            weight = weight * peak
        error = (student.sigmoid() - target).square().sum(1)
        return (weight * error).sum() / weight.sum().clamp(min=1e-6)
