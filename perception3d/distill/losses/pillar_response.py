"""BEV response distillation: compares the BEV class-score maps and the boxes of student and teacher.

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
from perception3d.distill.losses.slot_boxes import BoxAgreement, agreeing_slots
from perception3d.registry import MODELS


def pillar_saliency_loss(student: Tensor, teacher: Tensor, tau: float = 2.0, resample: str | None = None) -> Tensor:
    """Where objects are: the best class logit of every pillar as a distribution over the BEV plane.

    q = softmax over pillars of (max over classes of the logits / tau), L = tau^2 KL(q^T || q^S), mean over the batch.

    Args:
        student, teacher: class logits (B, C, X, Y).
        tau: temperature.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Raises:
        InputError: a different batch or other classes.
    """
    student, teacher = _planes(*paired_logits(student, teacher, resample))
    log_q, log_p = (F.log_softmax(x.amax(1).flatten(1) / tau, 1) for x in (student, teacher))
    return (log_p.exp() * (log_p - log_q)).sum(1).mean() * tau**2


def pillar_class_loss(
    student: Tensor, teacher: Tensor, beta: float = 2.0, gamma: float = 1.0, resample: str | None = None
) -> Tensor:
    """Which class: quality focal loss (arXiv 2006.04388) against the teacher's probabilities.

    L = sum over pillars p of W_p sum over slots a and classes c of |s^T - s^S|^beta BCE(s^S, s^T) / sum of W_p, where
    s are probabilities and W_p is the teacher's best probability in the pillar to the power gamma.

    Args:
        student, teacher: class logits (B, slots * classes, X, Y).
        beta: exponent of the focal factor.
        gamma: exponent of the pillar weights; 0 gives all pillars the same weight.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.

    Raises:
        InputError: a different batch or other classes.
    """
    student, teacher = _planes(*paired_logits(student, teacher, resample))
    target = teacher.sigmoid()
    gap = (target - student.sigmoid()).abs() ** beta
    loss = gap * F.binary_cross_entropy_with_logits(student, target, reduction='none')
    weights = pillar_scores(teacher) ** gamma
    return (loss * weights).sum() / weights.sum().clamp(min=1e-6)


def pillar_box_loss(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor,
    code_weights: Tensor,
    yaw_code: int | None = None,
    beta: float = 1.0,
    directions: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Which box: the teacher's box codes, by smooth L1.

    L = sum over slots of W sum over codes of w * SmoothL1(S, T) / sum of W. Codes of a yaw angle are compared by
    sin(S - T).

    Args:
        student, teacher: box codes (B, slots * codes, X, Y) on one grid, the teacher's without gradient.
        weights: W (B, slots, X, Y), such as the scores of confident slots.
        code_weights: w (codes,) of the codes of a box.
        yaw_code: index of a code that is an angle in radians; None where sine and cosine are codes of their own.
        beta: of the smooth L1.
        directions: logits (B, slots * 2, X, Y) of student and teacher for the two directions along the yaw:
            KL(T || S) of their probabilities is added in every slot. None for heads without them.
    """
    slots = weights.shape[1]
    student, teacher = (full_precision(x).unflatten(1, (slots, -1)) for x in (student, teacher))
    gap = student - teacher
    if yaw_code is not None:
        angle = gap[:, :, yaw_code].sin()[:, :, None]
        gap = torch.cat([gap[:, :, :yaw_code], angle, gap[:, :, yaw_code + 1 :]], 2)
    error = F.smooth_l1_loss(gap, torch.zeros_like(gap), reduction='none', beta=beta)
    error = (error * code_weights[:, None, None]).sum(2)
    if directions is not None:
        student, teacher = (full_precision(x).unflatten(1, (slots, 2)) for x in directions)
        error = error + tempered_kl(teacher, student, 1.0, 2)
    return (error * weights).sum() / weights.sum().clamp(min=1e-6)


def _planes(*maps: Tensor) -> list[Tensor]:
    """Copies maps (B, C, ...) to contiguous memory, one channel after another.

    Heads return slices of one channels-last map: the operations that follow read them many times, a few channels at
    once.
    """
    return [x.contiguous() for x in maps]


@MODELS.register_module()
class PillarSaliencyKD(nn.Module):
    """`pillar_saliency_loss` as the loss of a link.

    Args:
        tau, resample: of `pillar_saliency_loss`.
    """

    def __init__(self, tau: float = 2.0, resample: str | None = None) -> None:
        super().__init__()
        self.tau, self.resample = positive('tau', tau), resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of class logits (B, C, X, Y)."""
        return pillar_saliency_loss(student, teacher, self.tau, self.resample)


@MODELS.register_module()
class PillarClassKD(nn.Module):
    """`pillar_class_loss` as the loss of a link.

    Args:
        beta, gamma, resample: of `pillar_class_loss`.
    """

    def __init__(self, beta: float = 2.0, gamma: float = 1.0, resample: str | None = None) -> None:
        super().__init__()
        self.beta, self.gamma, self.resample = beta, gamma, resampling(resample)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of class logits (B, slots * classes, X, Y)."""
        return pillar_class_loss(student, teacher, self.beta, self.gamma, self.resample)


@MODELS.register_module()
class PillarBoxKD(nn.Module):
    """`pillar_box_loss` in the slots where the teacher is confident.

    The weight W of a slot is s^T, the teacher's best class probability in the slot, where s^T > score_thr, else 0. With
    `min_iou` it is also 0 in the slots that `agreeing_slots` refuses: the student does not copy a box that an
    annotated object contradicts. Boxes of the teacher where nothing is annotated stay.

    Args:
        teacher_logits: tap of the teacher's class logits (B, slots * classes, X, Y).
        slots: boxes in a pillar; 1 for centre heads, anchors of a cell for anchor heads.
        code_weights: weights of the codes of a box.
        score_thr: score above which the teacher counts as confident.
        beta, yaw_code: of `pillar_box_loss`.
        student_directions, teacher_directions: taps of logits (B, slots * 2, X, Y) of the two directions along the yaw,
            for heads that have them.
        min_iou: the smallest overlap with the ground truth, 0.3 in our formulation; None for no such test.
        reach_m, max_slots: of `BoxAgreement`.
        head: path of the teacher's head, which decodes its boxes.
    """

    code_weights: Tensor

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
            raise InputError('set student_directions and teacher_directions to taps of both networks, or neither')
        self.directions: tuple[str, str] | None = None
        self.student_taps: tuple[str, ...] = ()
        self.teacher_taps: tuple[str, ...] = (teacher_logits,)
        if student_directions is not None and teacher_directions is not None:
            self.directions = student_directions, teacher_directions
            self.student_taps, self.teacher_taps = (student_directions,), (teacher_logits, teacher_directions)
        agreement = BoxAgreement(0.3 if min_iou is None else min_iou, reach_m, max_slots)
        self.agreement = None if min_iou is None else agreement
        self.head = head
        self.teacher_modules = () if min_iou is None else (head,)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of box codes (B, slots * codes, X, Y) on one grid.

        Raises:
            InputError: other channels, or maps and logits on different grids.
        """
        logits = full_precision(context.teacher[self.logits].detach())
        codes = self.slots * len(self.code_weights)
        if student.shape != teacher.shape or student.shape[1] != codes or logits.shape[2:] != teacher.shape[2:]:
            raise InputError(
                f'box codes need one grid and slots x code_weights = {self.slots} x {len(self.code_weights)} channels: '
                f'the student has {tuple(student.shape)}, the teacher {tuple(teacher.shape)}, its logits '
                f'{tuple(logits.shape)}'
            )
        teacher = teacher.detach()
        weights = self._weights(logits, full_precision(teacher), context)
        directions = None
        if self.directions is not None:
            directions = context.student[self.directions[0]], context.teacher[self.directions[1]].detach()
        return pillar_box_loss(student, teacher, weights, self.code_weights, self.yaw_code, self.beta, directions)

    def _weights(self, logits: Tensor, codes: Tensor, context: DistillContext) -> Tensor:
        """Weights (B, slots, X, Y) of the slots."""
        by_slot = logits.unflatten(1, (self.slots, -1))
        scores = by_slot.amax(2).sigmoid()
        weights = scores * (scores > self.score_thr)
        if self.agreement is None:
            return weights
        classes, head = by_slot.argmax(2), context.teacher_modules[self.head].module
        return agreeing_slots(weights, classes, codes, head, context.samples, self.agreement)
