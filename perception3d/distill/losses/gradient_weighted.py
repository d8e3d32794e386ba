"""Feature distillation whose channels are weighted by the gradient of the student's own loss (arXiv 2505.08101)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import choice, standardise
from perception3d.distill.losses.voxel_rows import POINT, VOXEL, paired_rows, require_channels
from perception3d.registry import MODELS


def channel_weighted_loss(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """L = mean over rows n and channels c of w_c (S_nc - T_nc)^2, with the weights divided by their mean.

    Args:
        student, teacher: features (N, C).
        weights: (C,) importance of the channels, of any scale; all 0 weighs all channels the same.

    Returns:
        Scalar; 0 where there are no rows.
    """
    mean = weights.mean()
    weights = torch.where(mean > 0, weights / mean.clamp(min=torch.finfo(weights.dtype).tiny), 1)
    return ((student - teacher).square() * weights).sum() / max(student.numel(), 1)


def channel_importance(task_loss: Tensor | None, features: Tensor) -> Tensor:
    """Mean over rows of |d task_loss / d features|, (C,) for features (N, C), detached.

    The backward pass runs from the loss to the features only, and keeps what the main backward pass needs. Without
    gradients, as in a validation, all channels have the weight 1.

    Raises:
        InputError: the loss does not depend on these features.
    """
    if not torch.is_grad_enabled():
        return features.new_ones(features.shape[1])
    if task_loss is None:
        raise InputError("the context has no task_loss: this loss needs the student's own loss of the step")
    gradient = None
    if task_loss.requires_grad and features.requires_grad:
        (gradient,) = torch.autograd.grad(task_loss, features, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise InputError(
            "the student's own loss does not depend on these features: tap features in float32 that it is computed "
            'from, such as voxel_features, and give the channels to the loss instead of an adapter to the link'
        )
    return gradient.abs().mean(0)


@MODELS.register_module()
class GradientWeightedKD(nn.Module):
    """`channel_weighted_loss` with weights |dL/dF_c| of the student's own loss L, after a linear adapter.

    The teacher's features get zero mean and unit variance in each channel. Where student and teacher differ in width,
    the importance of the student's channels reaches those of the adapter's output by |A|: w_T = |A| w_S, with A the
    adapter's matrix (own proposal).

    Args:
        student_channels, teacher_channels: of the features; None in both for equal channels without an adapter.
        of: 'voxel' or 'point': what a row is.
    """

    def __init__(
        self, student_channels: int | None = None, teacher_channels: int | None = None, of: str = VOXEL
    ) -> None:
        super().__init__()
        self.of = choice('of', of, (POINT, VOXEL))
        if (student_channels is None) != (teacher_channels is None):
            raise InputError('student_channels and teacher_channels go together: set both, or none for no adapter')
        self.adapter = None
        if student_channels is not None and teacher_channels is not None:
            self.adapter = nn.Linear(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of features (N, student_channels) and (N, teacher_channels)."""
        importance = channel_importance(context.task_loss, student)
        student, teacher = paired_rows(student, teacher, context, self.of, same_channels=self.adapter is None)
        if self.adapter is not None:
            require_channels(student, teacher, (self.adapter.in_features, self.adapter.out_features))
            student = self.adapter(student)
            importance = self.adapter.weight.detach().abs() @ importance
        return channel_weighted_loss(student, standardise(teacher), importance)
