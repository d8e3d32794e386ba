"""Spatial-temporal distillation, second part: compares how similar the frames are within each pillar."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.frames import FrameLayout
from perception3d.distill.losses.maps import different_grids, full_precision, require_map, resampling
from perception3d.distill.losses.pillars import pillar_weights
from perception3d.registry import MODELS


def temporal_relation_loss(
    student: Tensor,
    teacher: Tensor,
    layouts: tuple[FrameLayout, FrameLayout],
    weights: Tensor | None = None,
    resample: str | None = None,
) -> Tensor:
    """Relations of the frames within each pillar: G_p[t, t'] = cos(B_{t,p}, B_{t',p}), compared squared.

    L = mean over pillars p of W_p * sum over t != t' of (G^S - G^T)^2 / F^2. It needs no adapter, and student and
    teacher may have other channels and other numbers of frames: the newest frames that both have are compared. Pairs
    of frames of which either network has one without image in that pillar do not count.

    On another grid an entry of the teacher is the mean of the cosines of its cells that have an image, with the weights
    of bilinear resizing; it counts where these cells have half of the weight or more.

    Our formulation: the text of arXiv 2211.08398 is not public.

    Args:
        student, teacher: lifted maps (B, Z * levels * F * C, X, Y).
        layouts: of the channels of student and teacher.
        weights: W (B, 1, X, Y) on the student's grid, such as `pillar_weights`; None for 1.
        resample: 'bilinear' where the teacher's grid has other cells of the same area; None allows no other grid.

    Raises:
        InputError: channels that do not fit the layouts, or different grids without `resample`.
    """
    require_map(student)
    frames = min(layout.frames for layout in layouts)
    cosines, valid = _relations(student, layouts[0], frames)
    teacher_cosines, teacher_valid = _relations(teacher.detach(), layouts[1], frames)
    if cosines.shape[1:3] != teacher_cosines.shape[1:3]:
        if resample is None:
            raise different_grids(tuple(student.shape), tuple(teacher.shape))
        teacher_cosines, teacher_valid = _resampled(teacher_cosines, teacher_valid, cosines.shape[1:3], resample)
    gap = ((cosines - teacher_cosines).square() * valid * teacher_valid).sum((3, 4)) / frames**2
    return gap.mean() if weights is None else (gap * weights[:, 0]).mean()


def _resampled(cosines: Tensor, valid: Tensor, size: torch.Size, mode: str) -> tuple[Tensor, Tensor]:
    """Means of the valid cosines (B, X, Y, F, F) on a grid of `size`, and 1 where at least half was valid."""
    total, weight = (
        F.interpolate(x.flatten(3).permute(0, 3, 1, 2), size, mode=mode, align_corners=False)
        .permute(0, 2, 3, 1)
        .unflatten(3, cosines.shape[3:])
        for x in (cosines * valid, valid)
    )
    # Weights of halves and quarters may add up to a little less.
    enough = weight > 0.5 - 1e-4
    return total / torch.where(enough, weight, 1.0), enough.to(weight.dtype)


def _relations(lifted: Tensor, layout: FrameLayout, newest: int) -> tuple[Tensor, Tensor]:
    """Cosines (B, X, Y, F, F) of the `newest` frames, and 1 for pairs of two frames that both have an image."""
    lifted = full_precision(lifted)
    channels = layout.channels(lifted)
    batch, _, size_x, size_y = lifted.shape
    split = lifted.reshape(batch, layout.stack, layout.frames, channels, size_x, size_y)
    features = split[:, :, :newest].permute(0, 4, 5, 2, 1, 3).flatten(4)
    squares = features.square().sum(-1)
    # A square that underflows has no direction either.
    present = (squares.detach() > 0).to(lifted.dtype)
    # The direction of an absent frame is undefined; its entries are masked, and 1 keeps the gradient finite.
    length = torch.where(present > 0, squares, 1.0).sqrt()
    directions = features / length[..., None].clamp(min=1e-6)
    both = present[..., :, None] * present[..., None, :]
    pairs = 1 - torch.eye(newest, dtype=lifted.dtype, device=lifted.device)
    return directions @ directions.transpose(-1, -2), both * pairs


@MODELS.register_module()
class TemporalRelationKD(nn.Module):
    """`temporal_relation_loss` of lifted maps, weighted by the teacher's class scores.

    Args:
        student_frames, teacher_frames: frames F in the lifted maps.
        height: cells Z along the height in them; the taps give (B, Z * levels * F * C, X, Y) in that order.
        saliency: tap of the teacher's class logits for the weights W; None for equal weights.
        levels: pyramid levels in the maps.
        transposed: the logits are (Y, X).
        teacher_height: Z of the teacher, where it differs.
        resample: of `temporal_relation_loss`.
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
        if min(student_frames, teacher_frames) < 2:
            raise InputError(
                f'the relation of frames needs two frames or more in student and teacher, got {student_frames} and '
                f'{teacher_frames}'
            )
        self.layouts = (
            FrameLayout(height * levels, student_frames),
            FrameLayout((teacher_height or height) * levels, teacher_frames),
        )
        self.saliency, self.transposed, self.resample = saliency, transposed, resampling(resample)
        self.teacher_taps = () if saliency is None else (saliency,)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of lifted maps (B, Z * levels * F * C, X, Y)."""
        weights = None
        if self.saliency is not None:
            require_map(student)
            logits = context.teacher[self.saliency]
            weights = pillar_weights(logits, student.shape[2:], transposed=self.transposed)
        return temporal_relation_loss(student, teacher, self.layouts, weights, self.resample)
