"""What a distillation loss may look at beside the two ends of its link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DistillContext:
    """The batch, its samples, everything that was tapped, and the step. Read only.

    Attributes:
        step: iteration of the training, from 0.
        student: taps of the student by their text.
        teacher: taps of the teacher, or of the student itself in self-distillation.
        inputs, samples: what the student got.
        teacher_inputs, teacher_samples: what the teacher got; the student's where the data has no view of its own.
    """

    step: int
    student: Mapping[str, Any]
    teacher: Mapping[str, Any]
    inputs: Any
    samples: Sequence[Any]
    teacher_inputs: Any
    teacher_samples: Sequence[Any]
