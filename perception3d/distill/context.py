"""What a distillation loss may look at, and run again, beside the two ends of its link."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import nn


class SecondPass:
    """Runs a submodule once more within a step, as the network itself ran it: its mode, its autocast, its parameters.

    In training mode the pass goes through a copy that shares the parameters and has buffers of its own, so that running
    statistics neither move nor count it, not even when checkpointing runs it again in the backward.

    Args:
        module: the submodule, also in the attribute `module`.
        learns: whether the pass has gradients, where they are enabled.
    """

    def __init__(self, module: nn.Module, learns: bool) -> None:
        self.module, self._learns = module, learns
        kind = next(chain(module.parameters(), module.buffers()), torch.empty(0)).device.type
        self._autocast = dict(
            device_type=kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind)
        )

    def __call__(self, *inputs: Any) -> Any:
        """Returns the module's output."""
        module = self.module
        if module.training:
            module = copy.deepcopy(module, {id(shared): shared for shared in module.parameters()})
        with torch.autocast(**self._autocast), torch.set_grad_enabled(self._learns and torch.is_grad_enabled()):
            return module(*inputs)


@dataclass(frozen=True)
class DistillContext:
    """The batch, its samples, everything that was tapped, and the step. Read only.

    Attributes:
        step: iteration of the training, from 0.
        student: taps of the student by their text.
        teacher: taps of the teacher, or of the student itself in self-distillation.
        inputs, samples: what the student got.
        teacher_inputs, teacher_samples: what the teacher got; the student's where the data has no view of its own.
        student_modules, teacher_modules: by their paths the submodules that losses have asked for.
    """

    step: int
    student: Mapping[str, Any]
    teacher: Mapping[str, Any]
    inputs: Any
    samples: Sequence[Any]
    teacher_inputs: Any
    teacher_samples: Sequence[Any]
    student_modules: Mapping[str, SecondPass] = field(default_factory=dict)
    teacher_modules: Mapping[str, SecondPass] = field(default_factory=dict)
