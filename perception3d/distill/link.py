"""Links: one loss between a place in the student and a place in the teacher, with its weight over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.nested import tensors_of, with_tensors
from perception3d.distill.schedule import WeightSchedule
from perception3d.distill.tap import Tap
from perception3d.registry import MODELS


@dataclass(frozen=True)
class LinkResult:
    """What a link computed in one step.

    Attributes:
        value: the output of the loss module, a scalar without weight and scale.
        gradient: 2-norm of the gradient of `value` by the student's end; None where it is not measured.
        measures: what the loss module measures besides, by name.
    """

    value: Tensor
    gradient: Tensor | None = None
    measures: Mapping[str, Tensor] = field(default_factory=dict)


class Link(nn.Module):
    """The loss between two taps, its adapter and its weight over time.

    With `match` the loss is scaled so that on average it is `match` times the student's own loss. Both averages are
    updated in the first `match_steps` active steps (over all steps so far, later over about the last hundred); after
    that the scale is constant. A loss that reaches the student later says so by its attribute `first_student_step`:
    the averages begin there.

    A loss may measure more than its value, such as the entropy of an attention map: its method
    `measures(student, teacher, context)` returns scalars by names, which the log has as `distill.<link>.<name>`.

    Args:
        student, teacher: taps, in the grammar of `Tap`.
        loss: config of a module `forward(student, teacher, context) -> scalar`. Its attributes `student_taps` and
            `teacher_taps`, where it has them, name further taps that it reads from the context. Its method
            `expected_data`, where it has one, states the classes that its settings name.
        adapter: config of a module on the student's end.
        match: scale the loss to this share of the student's own loss; None for no scaling.
        match_steps: in how many active steps the scale is updated.
        log_gradient: log `distill.<link>.gradient`, the 2-norm of the gradient of the weighted term by the student's
            tap: a value does not show that a gradient is zero. It costs a backward pass from the loss to the tap.
        **schedule: weight, start, ramp, decay_start, decay, decay_to and every, see `WeightSchedule`.
    """

    scale: Tensor
    means: Tensor
    seen: Tensor
    goal: Tensor

    def __init__(
        self,
        student: str,
        teacher: str,
        loss: dict[str, Any],
        adapter: dict[str, Any] | None = None,
        match: float | None = None,
        match_steps: int = 500,
        log_gradient: bool = False,
        **schedule: Any,
    ) -> None:
        super().__init__()
        self.student, self.teacher = Tap(student), Tap(teacher)
        try:
            self.schedule = WeightSchedule(**schedule)
        except TypeError as error:
            raise InputError(
                'expected the arguments student, teacher, loss, adapter, match, match_steps, log_gradient and those of '
                f'WeightSchedule: {error}'
            ) from error
        if match is not None and (match <= 0 or match_steps < 1):
            raise InputError(
                f'invalid match={match}, match_steps={match_steps}: expected a positive share and at least one step'
            )
        self.loss = MODELS.build(loss)
        self.adapter = None if adapter is None else MODELS.build(adapter)
        self.match, self.match_steps, self.log_gradient = match, match_steps, log_gradient
        self.register_buffer('scale', torch.ones(()))
        self.register_buffer('means', torch.zeros(2))
        self.register_buffer('seen', torch.zeros(()))
        # A buffer, so that update_scales need not copy it to the device in every step.
        self.register_buffer('goal', torch.tensor([match or 0.0, match_steps]), persistent=False)

    @property
    def student_taps(self) -> list[str]:
        """All taps that the link reads from the student."""
        return [self.student.text, *getattr(self.loss, 'student_taps', ())]

    @property
    def teacher_taps(self) -> list[str]:
        """All taps that the link reads from the teacher."""
        return [self.teacher.text, *getattr(self.loss, 'teacher_taps', ())]

    def is_measured(self, step: int) -> bool:
        """Whether the scale may be updated in this step: there is one, and the loss reaches the student."""
        return self.match is not None and step >= getattr(self.loss, 'first_student_step', 0)

    def forward(self, context: DistillContext) -> LinkResult:
        """Returns the loss of this step, and what is logged next to it."""
        student, teacher = context.student[self.student.text], context.teacher[self.teacher.text]
        features = [tensor for tensor in tensors_of(student) if tensor.is_floating_point()]
        trained = [tensor for tensor in features if tensor.requires_grad]
        if features and torch.is_grad_enabled() and not trained:
            raise InputError(
                f'the student has no gradient at {self.student.text!r}: it is frozen, detached, or checkpointed with '
                'use_reentrant=True; tap a module that is trained, or set use_reentrant=False'
            )
        if self.adapter is not None:
            student = self.adapter(student)
        student, teacher = _at_least_float32(student), _at_least_float32(teacher)
        with torch.autocast(self.scale.device.type, enabled=False):
            value = self.loss(student, teacher, context)
            if value.ndim:
                raise InputError(
                    f'{type(self.loss).__name__} returned a tensor of shape {tuple(value.shape)}: expected a scalar'
                )
            with torch.no_grad():
                measures = self.loss.measures(student, teacher, context) if hasattr(self.loss, 'measures') else {}
        if wrong := [name for name in measures if 'loss' in name]:
            raise InputError(
                f"{type(self.loss).__name__} measures {wrong[0]!r}: 'loss' marks what is summed in the log"
            )
        gradient = _gradient_norm(value, trained) if self.log_gradient and value.requires_grad else None
        return LinkResult(value, gradient, measures)

    def weighted(self, result: LinkResult, weight: float) -> dict[str, Tensor]:
        """Returns the entries of the log.

        They are `loss` (weighted, to be summed), `value` (output of the loss module), `scale` (loss / value), and what
        was measured.
        """
        factor = self.scale * weight
        entries = {'loss': result.value * factor, 'value': result.value.detach(), 'scale': factor}
        if result.gradient is not None:
            entries['gradient'] = result.gradient * factor
        return entries | dict(result.measures)

    def idle(self, device: torch.device) -> Tensor | None:
        """The loss of a step in which the link is not active: None, or a zero.

        The zero depends on the parameters of the link, so that in all processes the same parameters have a gradient. A
        link with `every` above 1 always gives a zero, so that the log averages over all steps.
        """
        parameters = [parameter.sum() for parameter in self.parameters() if parameter.requires_grad]
        if parameters:
            return torch.stack(parameters).sum() * 0
        return torch.zeros((), device=device) if self.schedule.every > 1 else None


@torch.no_grad()
def update_scales(links: Sequence[Link], values: Sequence[Tensor], student_loss: Tensor) -> None:
    """Updates the scales of links, so that each loss is on average `match` times the student's loss.

    For all links together: one reduction over processes, and no device synchronisation.
    """
    own = torch.stack([value.detach().float() for value in values])
    pairs = torch.stack([own, student_loss.detach().float().expand_as(own)], 1)
    all_reduce(pairs, 'mean')
    seen, means, scales = (torch.stack([getattr(link, name) for link in links]) for name in ('seen', 'means', 'scale'))
    match, steps = torch.stack([link.goal for link in links]).t()
    # A running mean over all steps so far, later over about the last hundred, so that the first steps lose weight.
    share = 1 / (seen + 1).clamp(max=100)
    # A loss of 0 had nothing to compare in this batch: it is left out of the mean.
    updated = (seen < steps) & pairs.isfinite().all(1) & (pairs[:, 0] > 0)
    means = torch.where(updated[:, None], means + (pairs - means) * share[:, None], means)
    scales = torch.where(updated, match * means[:, 1] / means[:, 0].clamp(min=1e-12), scales)
    for link, seen_now, mean, scale in zip(links, seen + updated, means, scales, strict=True):
        link.seen.copy_(seen_now)
        link.means.copy_(mean)
        link.scale.copy_(scale)


def _gradient_norm(value: Tensor, features: Sequence[Tensor]) -> Tensor:
    """2-norm of the gradient of `value` by all `features` together; the graph stays for the backward pass."""
    gradients = torch.autograd.grad(value, features, retain_graph=True, allow_unused=True)
    norms = [gradient.float().norm() for gradient in gradients if gradient is not None]
    return torch.stack(norms).norm() if norms else value.detach() * 0


def _at_least_float32(value: Any) -> Any:
    """Converts half precision, which has too few digits for differences, to float32; float64 stays."""
    halves = (torch.float16, torch.bfloat16)
    return with_tensors(lambda tensor: tensor.float() if tensor.dtype in halves else tensor, value)
