"""Parameters of a student that stay as they begin, throughout the training or in its first part."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from perception3d.checks import InputError, unknown_name
from perception3d.distill.schedule import WeightSchedule


class Freezing:
    """Freezes parameters of `student` by patterns of their names.

    What is let go later is trained from the start as far as wrappers for several processes can see, which fix at their
    start what has a gradient. While it is held, its gradients are zero and every optimizer skips it, so that neither
    weight decay nor a gathered momentum moves it.

    Args:
        student: the network.
        patterns: fnmatch patterns of names of parameters.
        until: when they are let go, in iterations as an int or as a float between 0 and 1 a share of the training; None
            for never.

    Raises:
        InputError: a pattern that fits no parameter, `until` without patterns.
    """

    def __init__(self, student: nn.Module, patterns: Sequence[str], until: int | float | None = None) -> None:
        parameters = dict(student.named_parameters())
        names: dict[str, None] = {}
        for pattern in patterns:
            found = [name for name in parameters if fnmatch(name, pattern)]
            if not found:
                raise unknown_name('parameter to freeze', pattern, parameters)
            names.update(dict.fromkeys(found))
        self.holds, self._held = True, [parameters[name] for name in names]
        if until is None:
            self._schedule = None
            for parameter in self._held:
                parameter.requires_grad_(False)
            return
        if not names:
            raise InputError(f'freeze_until={until} needs freeze: patterns of the parameters that are held')
        try:
            self._schedule = WeightSchedule(start=until)
        except InputError as error:
            raise InputError(f'freeze_until: {error}') from error
        own = weakref.ref(self)
        for parameter in self._held:
            if parameter.requires_grad:
                parameter.register_hook(lambda gradient: _silenced(own(), gradient))
        handle = register_optimizer_step_pre_hook(lambda *_: _skip(own()))
        weakref.finalize(self, handle.remove)

    def follow(self, step: int, max_steps: int | None) -> None:
        """Holds or lets go in iteration `step` (from 0) of `max_steps`."""
        self.holds = self._schedule is None or not self._schedule.at(step, max_steps)

    def __deepcopy__(self, memo: dict[int, Any]) -> Freezing:
        # A copy of the model, such as averaged weights, is not trained.
        return self


def _silenced(freezing: Freezing | None, gradient: Tensor) -> Tensor:
    return torch.zeros_like(gradient) if freezing is not None and freezing.holds else gradient


def _skip(freezing: Freezing | None) -> None:
    if freezing is not None and freezing.holds:
        for parameter in freezing._held:
            parameter.grad = None
