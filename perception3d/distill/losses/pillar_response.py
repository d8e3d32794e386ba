"""BEV response distillation: what the teacher answers in every pillar.

Part (b) of structured distillation for camera detectors (arXiv 2211.08398). Its text is not public: the three losses
are our formulation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import full_precision, paired_logits, positive, resampling, tempered_kl
from perception3d.distill.losses.pillars import pillar_scores
from perception3d.distill.losses.slot_boxes import agreeing_slots
from perception3d.registry import MODELS


@MODELS.register_module()
class PillarSaliencyKD(nn.Module):
    """Where something is: the best class logit of every pillar as a distribution over the bird's-eye plane.

    q = softmax over pillars of (max over classes of the logits / tau), L = tau^2 KL(q^T || q^S), mean over the batch.

    Args:
        tau: temperature.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """

    def __init__(self, tau: float = 2.0, resample: str | None = None) -> None:
        super().__init__()
        self.tau, self.resample = positive('tau', tau), resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Returns the scalar loss of class logits (B, C, X, Y)."""
        student, teacher = _planes(*paired_logits(student, teacher, self.resample))
        mine, theirs = (F.log_softmax(x.amax(1).flatten(1) / self.tau, 1) for x in (student, teacher))
        return (theirs.exp() * (theirs - mine)).sum(1).mean() * self.tau**2


@MODELS.register_module()
class PillarClassKD(nn.Module):
    """Which class: quality focal loss (arXiv 2006.04388) against the teacher's probabilities, where the teacher sees.

    L = sum over pillars p of W_p sum over slots a and classes c of |s^T - s^S|^beta BCE(s^S, s^T) / sum of W_p, where
    s are probabilities and W_p is the teacher's best probability in the pillar to the power gamma.

    Args:
        beta: exponent of the focal factor.
        gamma: exponent of the pillar weights; 0 weighs all pillars alike.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """

    def __init__(self, beta: float = 2.0, gamma: float = 1.0, resample: str | None = None) -> None:
        super().__init__()
        self.beta, self.gamma, self.resample = beta, gamma, resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Returns the scalar loss of class logits (B, slots * classes, X, Y)."""
        student, teacher = _planes(*paired_logits(student, teacher, self.resample))
        target = teacher.sigmoid()
        gap = (target - student.sigmoid()).abs() ** self.beta
        loss = gap * F.binary_cross_entropy_with_logits(student, target, reduction='none')
        weights = pillar_scores(teacher) ** self.gamma
        return (loss * weights).sum() / weights.sum().clamp(min=1e-6)


@MODELS.register_module()
class PillarBoxKD(nn.Module):
    """Which box: the teacher's box codes where it is sure, by smooth L1.

    L = sum over slots with s^T > score_thr of s^T sum over codes of w * SmoothL1(S, T) / sum of s^T, where s^T is the
    teacher's best class probability in the slot. Codes of a yaw angle are compared by sin(S - T).

    With `min_iou` the slots of `agreeing_slots` alone count, so that the student does not copy a box of an annotated
    object that the annotation contradicts. What the teacher sees and nobody has annotated stays.

    Args:
        teacher_logits: tap of the teacher's class logits (B, slots * classes, X, Y).
        slots: boxes in a pillar; 1 for centre heads, anchors of a cell for anchor heads.
        code_weights: weights w of the codes of a box.
        score_thr: where the teacher is sure.
        beta: of the smooth L1.
        yaw_code: index of a code that is an angle in radians; None where sine and cosine are codes of their own.
        student_directions, teacher_directions: taps of logits (B, slots * 2, X, Y) of the two directions along the yaw,
            for heads that have them: KL(T || S) of their probabilities is added in every sure slot.
        min_iou: the smallest overlap with the ground truth, 0.3 in our formulation; None asks for none.
        reach_m, max_slots: of `agreeing_slots`.
        head: path of the teacher's head, which decodes its boxes.
    """

    def __init__(
        self,
        teacher_logits: str,
        slots: int = 1,
        code_weights: Sequence[float] = (1.0,) * 8 + (0.2, 0.2),
        score_thr: float = 0.3,
        beta: float = 1.0,
        yaw_code: int | None = None,
        student_directions: str | None = None,
        teacher_directions: str | None = None,
        min_iou: float | None = None,
        reach_m: float = 4.0,
        max_slots: int = 200,
        head: str = 'bbox_head',
    ) -> None:
        super().__init__()
        self.logits, self.slots, self.score_thr, self.yaw_code = teacher_logits, slots, score_thr, yaw_code
        self.beta = positive('beta', beta)
        self.register_buffer('code_weights', torch.tensor(code_weights, dtype=torch.float32), persistent=False)
        if (student_directions is None) != (teacher_directions is None):
            raise InputError('name the taps of the directions of both student and teacher, or of neither')
        self.directions = None if student_directions is None else (student_directions, teacher_directions)
        self.student_taps = () if self.directions is None else (student_directions,)
        self.teacher_taps = (teacher_logits,) if self.directions is None else (teacher_logits, teacher_directions)
        if min_iou is not None and not 0 < min_iou <= 1 or max_slots < 1:
            raise InputError(f'min_iou={min_iou}, max_slots={max_slots}: give an IoU in (0, 1], and one slot or more')
        self.min_iou, self.reach_m, self.max_slots = min_iou, positive('reach_m', reach_m), max_slots
        self.head = head
        self.teacher_modules = () if min_iou is None else (head,)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Returns the scalar loss of box codes (B, slots * codes, X, Y) on one grid."""
        logits = full_precision(context.teacher[self.logits].detach())
        codes = self.slots * len(self.code_weights)
        if student.shape != teacher.shape or student.shape[1] != codes or logits.shape[2:] != teacher.shape[2:]:
            raise InputError(
                f'box codes need one grid and {self.slots} x {len(self.code_weights)} channels: the student has '
                f'{tuple(student.shape)}, the teacher {tuple(teacher.shape)}, its logits {tuple(logits.shape)}'
            )
        mine, theirs = (full_precision(x).unflatten(1, (self.slots, -1)) for x in (student, teacher.detach()))
        by_slot = logits.unflatten(1, (self.slots, -1))
        scores = by_slot.amax(2).sigmoid()
        sure = scores * (scores > self.score_thr)
        if self.min_iou is not None:
            classes, decoder = by_slot.argmax(2), context.teacher_modules[self.head].module
            settings = (self.min_iou, self.reach_m, self.max_slots)
            sure = agreeing_slots(sure, classes, full_precision(teacher.detach()), decoder, context.samples, *settings)
        gap = mine - theirs
        if self.yaw_code is not None:
            angle = gap[:, :, self.yaw_code].sin()[:, :, None]
            gap = torch.cat([gap[:, :, : self.yaw_code], angle, gap[:, :, self.yaw_code + 1 :]], 2)
        error = F.smooth_l1_loss(gap, torch.zeros_like(gap), reduction='none', beta=self.beta)
        error = (error * self.code_weights[:, None, None]).sum(2)
        if self.directions is not None:
            mine, theirs = context.student[self.directions[0]], context.teacher[self.directions[1]].detach()
            mine, theirs = (full_precision(x).unflatten(1, (self.slots, 2)) for x in (mine, theirs))
            error = error + tempered_kl(theirs, mine, 1.0, 2)
        return (error * sure).sum() / sure.sum().clamp(min=1e-6)


def _planes(*maps: Tensor) -> list[Tensor]:
    """Copies maps (B, C, ...) to one plane after another, where they are not.

    Heads give slices of one map whose channels lie innermost: what follows reads them many times, and few at once.
    """
    return [x.contiguous() for x in maps]
