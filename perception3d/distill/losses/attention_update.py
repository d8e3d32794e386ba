"""Spatial-temporal distillation for transformers: compares what an attention block adds to each BEV query."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import full_precision
from perception3d.distill.losses.pillars import pillar_weights
from perception3d.registry import MODELS


def attention_update_loss(student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
    """Difference of direction between the updates of queries.

    L = mean over queries q of W_q * (1 - cos(D^S_q, D^T_q)), D = output - input of an attention block with residual
    connection. Temporal self-attention adds what the past frames show, spatial cross-attention what the cameras show.
    The cosine needs neither adapter nor scale, but directions are comparable only where student and teacher share their
    queries and width: inherit the embeddings, and freeze them.

    Our formulation: the text of structured distillation for camera detectors (arXiv 2211.08398) is not public.

    Args:
        student, teacher: updates D (B, Q, C) of both networks.
        weights: W (B, Q); None for 1.
    """
    gap = 1 - F.cosine_similarity(student, teacher.detach(), dim=2, eps=1e-6)
    return gap.mean() if weights is None else (gap * weights).mean()


@MODELS.register_module()
class AttentionUpdateKD(nn.Module):
    """`attention_update_loss` of two attention blocks, whose outputs the link taps.

    Args:
        student_input, teacher_input: taps of the inputs (B, Q, C) of the blocks.
        saliency: tap of the teacher's class logits (B, K, X, Y) for the weights W; None for equal weights.
        y_first: the queries run over x fastest, q = y * X + x, as those of `BEVFormerEncoder`; else over y fastest.
        grids: (rows, columns) of the queries of student and teacher, the columns running fastest, where the teacher has
            other queries over the same area: its updates are resized (bilinear) to the student's grid. None where both
            have the same queries.
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
        self.grids = None
        if grids is not None:
            (rows, columns), (teacher_rows, teacher_columns) = grids
            self.grids = (rows, columns), (teacher_rows, teacher_columns)
        self.inputs, self.saliency, self.y_first = (student_input, teacher_input), saliency, y_first
        self.student_taps = (student_input,)
        self.teacher_taps = (teacher_input,) if saliency is None else (teacher_input, saliency)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of the outputs (B, Q, C) of two blocks."""
        shape, teacher_shape = tuple(student.shape), tuple(teacher.shape)
        fits = len(shape) == len(teacher_shape) == 3 and shape[::2] == teacher_shape[::2]
        if not fits or (self.grids is None and shape != teacher_shape):
            raise InputError(
                f'updates of queries need equal shapes (B, Q, C): the student has {shape}, the teacher '
                f'{teacher_shape}; for other queries of the same area set grids=((rows, columns), (rows, columns)) in '
                'the loss'
            )
        student_update = full_precision(student) - full_precision(context.student[self.inputs[0]])
        teacher_update = full_precision(teacher) - full_precision(context.teacher[self.inputs[1]])
        if self.grids is not None:
            teacher_update = self._resized(teacher_update, shape[1], *self.grids)
        weights = None if self.saliency is None else self._weights(context.teacher[self.saliency], shape[1])
        return attention_update_loss(student_update, teacher_update, weights)

    def _weights(self, logits: Tensor, queries: int) -> Tensor:
        """Weights (B, Q) of the student's queries."""
        size: Sequence[int] = logits.shape[2:]
        if self.grids is not None:
            size = self.grids[0][::-1] if self.y_first else self.grids[0]
        elif size[0] * size[1] != queries:
            raise InputError(
                f'{queries} queries do not match the grid of the logits {tuple(logits.shape)}: expected one query per '
                'cell; set grids in the loss, or tap other logits'
            )
        weights = pillar_weights(logits, size)[:, 0]
        return (weights.transpose(1, 2) if self.y_first else weights).flatten(1)

    def _resized(self, updates: Tensor, queries: int, grid: tuple[int, int], teacher_grid: tuple[int, int]) -> Tensor:
        """The teacher's updates (B, Q, C) on the student's grid."""
        if grid[0] * grid[1] != queries or teacher_grid[0] * teacher_grid[1] != updates.shape[1]:
            raise InputError(
                f'grids={self.grids} do not match the {queries} queries of the student and the {updates.shape[1]} of '
                'the teacher: expected rows x columns queries for each'
            )
        maps = updates.transpose(1, 2).unflatten(2, teacher_grid)
        return F.interpolate(maps, grid, mode='bilinear', align_corners=False).flatten(2).transpose(1, 2)
