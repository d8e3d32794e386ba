"""Spatial-temporal distillation for transformers: what an attention block adds to each bird's-eye query."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import full_precision
from perception3d.distill.losses.pillars import pillar_weights
from perception3d.registry import MODELS


@MODELS.register_module()
class AttentionUpdateKD(nn.Module):
    """The knowledge of fusion: D = output - input of an attention block with its identity inside, query by query.

    L = mean over queries q of W_q * (1 - cos(D^S_q, D^T_q)). Temporal self-attention adds what the moment before tells,
    spatial cross-attention what the cameras tell. The cosine needs no adapter and no scale, but directions mean the
    same only where student and teacher share their queries and width: inherit the embeddings, and freeze them.

    Our formulation: the text of structured distillation for camera detectors (arXiv 2211.08398) is not public.

    Args:
        student_input, teacher_input: taps of the inputs (B, Q, C) of the blocks, whose outputs the link taps.
        saliency: tap of the teacher's class logits (B, K, X, Y) for W; None weighs all queries alike.
        y_first: the queries run over x fastest, q = y * X + x, as those of `BEVFormerEncoder`; else over y fastest.
        grids: (rows, columns) of the queries of student and teacher, the columns running fastest, where the teacher has
            other queries over the same metres: its updates are resized (bilinear) to the student's grid. None allows
            no other queries.
    """

    def __init__(
        self,
        student_input: str,
        teacher_input: str,
        saliency: str | None = None,
        y_first: bool = True,
        grids: tuple[tuple[int, int], tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        self.grids = None if grids is None else tuple(tuple(grid) for grid in grids)
        self.inputs, self.saliency, self.y_first = (student_input, teacher_input), saliency, y_first
        self.student_taps = (student_input,)
        self.teacher_taps = (teacher_input,) if saliency is None else (teacher_input, saliency)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Returns the scalar loss of the outputs (B, Q, C) of two blocks."""
        own, other = tuple(student.shape), tuple(teacher.shape)
        if len(own) != 3 or len(other) != 3 or own[::2] != other[::2] or (self.grids is None and own != other):
            raise InputError(
                f'updates of queries need equal shapes (B, Q, C): the student has {own}, the teacher {other}; for '
                'other queries of the same place give the loss grids=((rows, columns), (rows, columns))'
            )
        mine = full_precision(student) - full_precision(context.student[self.inputs[0]])
        theirs = full_precision(teacher) - full_precision(context.teacher[self.inputs[1]])
        if self.grids is not None:
            theirs = self._resized(theirs, own[1])
        gap = 1 - F.cosine_similarity(mine, theirs.detach(), dim=2, eps=1e-6)
        if self.saliency is None:
            return gap.mean()
        logits = context.teacher[self.saliency]
        size = tuple(logits.shape[2:])
        if self.grids is not None:
            size = self.grids[0][::-1] if self.y_first else self.grids[0]
        elif size[0] * size[1] != gap.shape[1]:
            raise InputError(f'{gap.shape[1]} queries do not stand on the grid of the logits {tuple(logits.shape)}')
        weights = pillar_weights(logits, size)[:, 0]
        return (gap * (weights.transpose(1, 2) if self.y_first else weights).flatten(1)).mean()

    def _resized(self, updates: Tensor, queries: int) -> Tensor:
        """The teacher's updates (B, Q, C) on the student's grid."""
        own, other = self.grids
        if own[0] * own[1] != queries or other[0] * other[1] != updates.shape[1]:
            raise InputError(
                f'grids={self.grids} do not hold the {queries} queries of the student and the {updates.shape[1]} of '
                'the teacher'
            )
        maps = updates.transpose(1, 2).unflatten(2, other)
        return F.interpolate(maps, own, mode='bilinear', align_corners=False).flatten(2).transpose(1, 2)
