"""What a distillation loss may read, run again and share, next to the two ends of its link."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from perception3d.checks import InputError

_Value = TypeVar('_Value')


class SecondPass:
    """Runs a submodule once more within a step, as the network itself ran it: its mode, its autocast, its parameters.

    In training mode the second pass uses a copy that shares the parameters and has its own buffers. Running statistics
    are therefore neither updated nor counted, not even when gradient checkpointing runs the copy again in the backward.

    Args:
        module: the submodule, also in the attribute `module`.
        has_gradient: whether the pass has gradients, where they are enabled.
    """

    def __init__(self, module: nn.Module, has_gradient: bool) -> None:
        self.module, self._has_gradient = module, has_gradient
        device_type = next(chain(module.parameters(), module.buffers()), torch.empty(0)).device.type
        self._autocast = (
            device_type,
            torch.get_autocast_dtype(device_type),
            torch.is_autocast_enabled(device_type),
        )

    def __call__(self, *inputs: Any) -> Any:
        """Returns the module's output."""
        module = self.module
        if module.training:
            module = copy.deepcopy(module, {id(shared): shared for shared in module.parameters()})
        with torch.autocast(*self._autocast), torch.set_grad_enabled(self._has_gradient and torch.is_grad_enabled()):
            return module(*inputs)


@dataclass(frozen=True)
class DistillContext:
    """The batch, its samples, all taps and the step. Losses read it, and share results by `shared`.

    Every training step has a context of its own, and all links of the step get the same one.

    Attributes:
        step: iteration of the training, from 0.
        student: taps of the student by their text.
        teacher: taps of the teacher, or of the student itself in self-distillation.
        inputs, samples: what the student got.
        teacher_inputs, teacher_samples: what the teacher got; the student's where the data has no separate view for it.
        student_modules, teacher_modules: the submodules that losses have asked for, by their paths.
        task_loss: the student's own loss of the step, a scalar in its graph. A loss may take its gradient by the
            student's taps with `torch.autograd.grad(.., retain_graph=True)`, and must not change it.
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
    task_loss: Tensor | None = None
    _shared: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _being_made: set[Hashable] = field(default_factory=set, init=False, repr=False, compare=False)

    def shared(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """Returns `make()`, computed by the first link of this step that asks for `key`, to all links of the step.

        For what several links must have in common, such as supervoxels that are sampled at random: all links get the
        same object, and nothing is kept for the next step. Put into the key everything that the value depends on.

            rows = context.shared(('supervoxels', num_samples), lambda: sample_supervoxels(context.inputs, num_samples))

        Raises:
            InputError: `make` asks for its own key, directly or through other shared values.
        """
        if key not in self._shared:
            if key in self._being_made:
                raise InputError(
                    f'shared value {key!r} is defined in terms of itself: its `make` asks for the same key; use '
                    'another key for the inner value'
                )
            self._being_made.add(key)
            try:
                self._shared[key] = make()
            finally:
                self._being_made.discard(key)
        return self._shared[key]
