"""Spatial-temporal distillation, fourth part: compares what the past frames add to the fused BEV map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext, SecondPass
from perception3d.distill.losses.frames import FrameLayout
from perception3d.distill.losses.fused_feature import FusedFeatureKD, fused_feature_loss
from perception3d.distill.losses.maps import full_precision
from perception3d.registry import MODELS


class EncoderOutputs(NamedTuple):
    """BEV maps (B, C, X, Y) of one encoder E.

    Attributes:
        all_frames: E of all frames.
        current_frame: E of the current frame, with zeros instead of all other frames.
    """

    all_frames: Tensor
    current_frame: Tensor

    def increment(self) -> Tensor:
        """D = E(all frames) - E(current frame), in full precision."""
        return full_precision(self.all_frames) - full_precision(self.current_frame)


def fusion_increment_loss(
    student: EncoderOutputs,
    teacher: EncoderOutputs,
    adapter: Callable[[Tensor], Tensor] | None = None,
    weights: Tensor | None = None,
    resample: str | None = None,
) -> Tensor:
    """Compares what temporal fusion adds: D = E(all frames) - E(current frame) of a convolutional encoder E.

    L = mean over pillars p of W_p * mean over channels of (phi(D^S)_p - n(D^T)_p)^2, with W_p and n of
    `fused_feature_loss`.

    Our formulation: the text of structured distillation for camera detectors (arXiv 2211.08398) is not public.

    Args:
        student, teacher: maps (B, C, X, Y) of both networks.
        adapter: phi, from the student's channels and scale to the teacher's; None for the identity.
        weights: W (B, 1, X, Y), such as `pillar_weights`; None for 1.
        resample: 'bilinear' where the teacher's map has another size than the student's; see `paired_features`.
    """
    increment = student.increment()
    adapted = increment if adapter is None else adapter(increment)
    return fused_feature_loss(adapted, teacher.increment().detach(), weights, resample)


@MODELS.register_module()
class FusionIncrementKD(nn.Module):
    """`fusion_increment_loss` of the BEV encoders of two networks.

    For E(current frame) the channels of all other frames in the lifted maps are set to 0, as where no camera sees. This
    takes a second pass of E in each network, in the student also a second backward pass: use `every` of the link to run
    it only every few steps. In training the student's second pass has batch statistics of its own and does not change
    the running ones. For transformers `AttentionUpdateKD` compares the same without a second pass.

    The link taps the output of E in both networks and has no adapter: phi, which sees the difference, is `adapter`.

    Args:
        encoder: path of E, whose first argument is a lifted map (B, Z * levels * F * C, X, Y), channels in that order,
            or a list of such maps.
        student_frames, teacher_frames: frames F in the lifted maps, the current one first.
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
            raise InputError(
                f'the fusion increment needs two frames or more in student and teacher, got {student_frames} and '
                f'{teacher_frames}'
            )
        paths = encoder, teacher_encoder or encoder
        self.student_layout = FrameLayout(height * levels, student_frames)
        self.teacher_layout = FrameLayout((teacher_height or height) * levels, teacher_frames)
        self.compare = FusedFeatureKD(saliency, gamma, transposed, resample)
        self.adapter = nn.Identity() if adapter is None else MODELS.build(adapter)
        self.inputs = tuple(f'{path}:input[0]' for path in paths)
        self.student_modules, self.teacher_modules = (paths[0],), (paths[1],)
        self.student_taps, self.teacher_taps = (self.inputs[0],), (self.inputs[1], *self.compare.teacher_taps)

    def forward(self, student: Tensor, teacher: Tensor, context: DistillContext) -> Tensor:
        """Scalar loss of the outputs (B, C, X, Y) of both encoders."""
        student_encoder = context.student_modules[self.student_modules[0]]
        teacher_encoder = context.teacher_modules[self.teacher_modules[0]]
        outputs = _outputs(student, context.student[self.inputs[0]], student_encoder, self.student_layout)
        teacher_outputs = _outputs(
            teacher.detach(), context.teacher[self.inputs[1]], teacher_encoder, self.teacher_layout
        )
        weights = self.compare.weights(student, context)
        return fusion_increment_loss(outputs, teacher_outputs, self.adapter, weights, self.compare.resample)


def _outputs(
    fused: Tensor, lifted: Tensor | Sequence[Tensor], encoder: SecondPass, layout: FrameLayout
) -> EncoderOutputs:
    """The tapped output of the encoder, and its output for the current frame alone."""
    current = (
        layout.current_frame_only(lifted)
        if isinstance(lifted, Tensor)
        else [layout.current_frame_only(volume) for volume in lifted]
    )
    alone = encoder(current)
    if not isinstance(alone, Tensor) or alone.shape != fused.shape:
        shape = tuple(alone.shape) if isinstance(alone, Tensor) else type(alone).__name__
        raise InputError(
            f'the link taps {tuple(fused.shape)}, but {type(encoder.module).__name__} returns {shape} for the current '
            'frame: tap the output of the encoder, a map (B, C, X, Y)'
        )
    return EncoderOutputs(fused, alone)
