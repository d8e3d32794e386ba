"""Spatial-temporal distillation, fourth part: what the moments before add to the fused map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext, SecondPass
from perception3d.distill.losses.fused_feature import FusedFeatureKD
from perception3d.distill.losses.maps import full_precision
from perception3d.registry import MODELS


@MODELS.register_module()
class FusionIncrementKD(nn.Module):
    """The knowledge of fusion of a convolutional encoder E: D = E(all moments) - E(the present moment alone).

    L = mean over pillars p of W_p * mean over channels of (phi(D^S)_p - n(D^T)_p)^2, with W_p and n of
    `FusedFeatureKD`. For E(the present moment alone) the slots of all other moments in the lifted maps are 0, as where
    no camera sees. It costs one more pass of E in each network, and in the student its gradient: let the link run every
    few steps. In training the student's second pass has batch statistics of its own and does not touch the running
    ones. Transformers have their increment without a second pass, see `AttentionUpdateKD`.

    The link taps the output of E in both networks and has no adapter: phi, which sees the difference, is `adapter`.

    Our formulation: the text of structured distillation for camera detectors (arXiv 2211.08398) is not public.

    Args:
        encoder: path of E, whose first argument is a lifted map (B, Z * levels * F * C, X, Y), channels in that order,
            or a list of such maps.
        student_frames, teacher_frames: moments F in the lifted maps, the present one first.
        height: cells Z along the height in them.
        adapter: config of phi, such as a ConvAdapter; None where both have the same channels and scale.
        levels: pyramid levels in the maps.
        teacher_height, teacher_encoder: of the teacher, where they differ.
        saliency, gamma, transposed, resample: of `FusedFeatureKD`.
    """

    def __init__(
        self,
        encoder: str,
        student_frames: int,
        teacher_frames: int,
        height: int,
        adapter: dict[str, Any] | None = None,
        levels: int = 1,
        teacher_height: int | None = None,
        teacher_encoder: str | None = None,
        saliency: str | None = None,
        gamma: float = 1.0,
        transposed: bool = False,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        if min(student_frames, teacher_frames) < 2:
            raise InputError('the increment of fusion needs two frames or more in student and teacher')
        paths = encoder, teacher_encoder or encoder
        self.student_groups = height * levels, student_frames
        self.teacher_groups = (teacher_height or height) * levels, teacher_frames
        self.compare = FusedFeatureKD(saliency, gamma, transposed, resample)
        self.adapter = nn.Identity() if adapter is None else MODELS.build(adapter)
        self.inputs = tuple(f'{path}:input[0]' for path in paths)
        self.student_modules, self.teacher_modules = (paths[0],), (paths[1],)
        self.student_taps, self.teacher_taps = (self.inputs[0],), (self.inputs[1], *self.compare.teacher_taps)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Returns the scalar loss of the outputs (B, C, X, Y) of both encoders."""
        again = context.student_modules[self.student_modules[0]], context.teacher_modules[self.teacher_modules[0]]
        mine = _increment(student, context.student[self.inputs[0]], again[0], *self.student_groups)
        theirs = _increment(teacher.detach(), context.teacher[self.inputs[1]], again[1], *self.teacher_groups)
        return self.compare(self.adapter(mine), theirs, context)


def _increment(fused: Tensor, lifted: Tensor | Sequence[Tensor], again: SecondPass, stack: int, frames: int) -> Tensor:
    """What all moments give more than the present one alone, (B, C, X, Y)."""
    present = (
        _present(lifted, stack, frames)
        if isinstance(lifted, Tensor)
        else [_present(volume, stack, frames) for volume in lifted]
    )
    alone = again(present)
    if not isinstance(alone, Tensor) or alone.shape != fused.shape:
        given = tuple(alone.shape) if isinstance(alone, Tensor) else type(alone).__name__
        raise InputError(
            f'the link gives {tuple(fused.shape)}, and {type(again.module).__name__} without the history {given}: tap '
            'the output of the encoder, a map (B, C, X, Y)'
        )
    return full_precision(fused) - full_precision(alone)


def _present(lifted: Tensor, stack: int, frames: int) -> Tensor:
    """A lifted map (B, stack * frames * C, X, Y) with 0 in the slots of all moments but the first."""
    per_frame, rest = divmod(lifted.shape[1], stack * frames)
    if rest:
        raise InputError(f'{lifted.shape[1]} channels are not (height x levels) {stack} x frames {frames}')
    # A factor for each channel keeps the layout of the memory.
    kept = torch.arange(lifted.shape[1], device=lifted.device) // per_frame % frames == 0
    return lifted * kept.to(lifted.dtype)[:, None, None]
