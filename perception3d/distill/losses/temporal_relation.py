"""Spatial-temporal distillation, second part: how alike a pillar looks at different times."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import full_precision, other_grid, resampling
from perception3d.distill.losses.pillars import pillar_weights
from perception3d.registry import MODELS


@MODELS.register_module()
class TemporalRelationKD(nn.Module):
    """Relations of the moments within each pillar: G_p[t, t'] = cos(B_{t,p}, B_{t',p}), compared squared.

    L = mean over pillars p of W_p * sum over t != t' of (G^S - G^T)^2 / F^2. It needs no adapter, and student and
    teacher may have other channels and other numbers of frames: the newest frames that both have are compared. Entries
    in which either network has a moment without image in that pillar do not count.

    On another grid an entry of the teacher is the mean of the cosines of its cells that have an image, with the weights
    of bilinear resizing; it counts where these cells have half of the weight or more.

    Our formulation: the text of arXiv 2211.08398 is not public.

    Args:
        student_frames, teacher_frames: moments F in the lifted maps.
        height: cells Z along the height in them; the taps give (B, Z * levels * F * C, X, Y) in that order.
        teacher_height: Z of the teacher, where it differs.
        resample: 'bilinear' where the teacher's grid has other cells of the same place; None allows none.
        saliency: tap of the teacher's class logits for W_p; None weighs all pillars alike.
        levels: pyramid levels in the maps.
        transposed: the logits are (Y, X).
    """

    def __init__(
        self,
        student_frames: int,
        teacher_frames: int,
        height: int,
        saliency: str | None = None,
        levels: int = 1,
        transposed: bool = False,
        teacher_height: int | None = None,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.frames = min(student_frames, teacher_frames)
        if self.frames < 2:
            raise InputError('the relation of moments needs two frames or more in student and teacher')
        self.student_groups = height * levels, student_frames
        self.teacher_groups = (teacher_height or height) * levels, teacher_frames
        self.saliency, self.transposed, self.resample = saliency, transposed, resampling(resample)
        self.teacher_taps = () if saliency is None else (saliency,)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Returns the scalar loss of lifted maps (B, Z*L*F*C, X, Y)."""
        mine, seen = self._relations(student, *self.student_groups)
        theirs, also_seen = self._relations(teacher.detach(), *self.teacher_groups)
        if mine.shape[1:3] != theirs.shape[1:3]:
            if self.resample is None:
                raise other_grid(tuple(student.shape), tuple(teacher.shape))
            theirs, also_seen = self._resampled(theirs, also_seen, mine.shape[1:3])
        gap = ((mine - theirs).square() * seen * also_seen).sum((3, 4)) / self.frames**2
        if self.saliency is not None:
            logits = context.teacher[self.saliency]
            gap = gap * pillar_weights(logits, gap.shape[1:3], transposed=self.transposed)[:, 0]
        return gap.mean()

    def _resampled(self, cosines: Tensor, seen: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Means of the seen cosines (B, X, Y, F, F) on a grid of `size`, and 1 where at least half was seen."""
        total, weight = (
            F.interpolate(x.flatten(3).permute(0, 3, 1, 2), size, mode=self.resample, align_corners=False)
            .permute(0, 2, 3, 1)
            .unflatten(3, (self.frames, self.frames))
            for x in (cosines * seen, seen)
        )
        # Weights of halves and quarters may add up to a little less.
        enough = weight > 0.5 - 1e-4
        return total / torch.where(enough, weight, 1.0), enough.to(weight.dtype)

    def _relations(self, lifted: Tensor, stack: int, frames: int) -> tuple[Tensor, Tensor]:
        """Cosines (B, X, Y, F, F) of the newest frames, and 1 where they are two that both have an image."""
        lifted = full_precision(lifted)
        per_frame, rest = divmod(lifted.shape[1], stack * frames)
        if rest:
            raise InputError(f'{lifted.shape[1]} channels are not (height x levels) {stack} x frames {frames}')
        batch, _, size_x, size_y = lifted.shape
        split = lifted.reshape(batch, stack, frames, per_frame, size_x, size_y)
        moments = split[:, :, : self.frames].permute(0, 4, 5, 2, 1, 3).flatten(4)
        squares = moments.square().sum(-1)
        # A square that underflows has no direction either.
        present = (squares.detach() > 0).to(lifted.dtype)
        # Of an absent moment the direction is undefined; its entries are masked, and 1 keeps the gradient finite.
        length = torch.where(present > 0, squares, 1.0).sqrt()
        directions = moments / length[..., None].clamp(min=1e-6)
        both = present[..., :, None] * present[..., None, :]
        pairs = 1 - torch.eye(self.frames, dtype=lifted.dtype, device=lifted.device)
        return directions @ directions.transpose(-1, -2), both * pairs
