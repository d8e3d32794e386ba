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
from perception3d.distill.losses.maps import full_precision, paired_logits, positive, tempered_kl
from perception3d.distill.losses.pillars import pillar_scores
from perception3d.registry import MODELS


@MODELS.register_module()
class PillarSaliencyKD(nn.Module):
    """Where something is: the best class logit of every pillar as a distribution over the bird's-eye plane.

    q = softmax over pillars of (max over classes of the logits / tau), L = tau^2 KL(q^T || q^S), mean over the batch.

    Args:
        tau: temperature.
    """

    def __init__(self, tau: float = 2.0) -> None:
        super().__init__()
        self.tau = positive('tau', tau)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Returns the scalar loss of class logits (B, C, X, Y)."""
        student, teacher = paired_logits(student, teacher)
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
    """

    def __init__(self, beta: float = 2.0, gamma: float = 1.0) -> None:
        super().__init__()
        self.beta, self.gamma = beta, gamma

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Returns the scalar loss of class logits (B, slots * classes, X, Y)."""
        student, teacher = paired_logits(student, teacher)
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

    Args:
        teacher_logits: tap of the teacher's class logits (B, slots * classes, X, Y).
        slots: boxes in a pillar; 1 for centre heads, anchors of a cell for anchor heads.
        code_weights: weights w of the codes of a box.
        score_thr: where the teacher is sure.
        beta: of the smooth L1.
        yaw_code: index of a code that is an angle in radians; None where sine and cosine are codes of their own.
        student_directions, teacher_directions: taps of logits (B, slots * 2, X, Y) of the two directions along the yaw,
            for heads that have them: KL(T || S) of their probabilities is added in every sure slot.
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
        scores = logits.unflatten(1, (self.slots, -1)).amax(2).sigmoid()
        sure = scores * (scores > self.score_thr)
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
