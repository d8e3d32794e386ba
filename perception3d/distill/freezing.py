"""Keeps parameters of a student at their initial values, for the whole training or for its first part."""

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

    With `until`, the parameters keep `requires_grad`, because DistributedDataParallel reads it only once, at its
    start. While they are frozen, their gradients are set to zero and every optimizer skips them, so that neither
    weight decay nor momentum changes them.

    Args:
        student: the network.
        patterns: fnmatch patterns of names of parameters.
        until: when their training begins: an int counts iterations, a float between 0 and 1 is a share of the training;
            None for never.

    Raises:
        InputError: a pattern that matches no parameter, or `until` without patterns.
    """

    def __init__(self, student: nn.Module, patterns: Sequence[str], until: int | float | None = None) -> None:
        parameters = dict(student.named_parameters())
        names: dict[str, None] = {}
        for pattern in patterns:
            matches = [name for name in parameters if fnmatch(name, pattern)]
            if not matches:
                raise unknown_name('parameter to freeze', pattern, parameters)
            names.update(dict.fromkeys(matches))
        self.active, self._parameters = True, [parameters[name] for name in names]
        if until is None:
            self._schedule = None
            for parameter in self._parameters:
                parameter.requires_grad_(False)
            return
        if not names:
            raise InputError(f'freeze_until={until} needs freeze: set it to patterns of the parameters to freeze')
        try:
            self._schedule = WeightSchedule(start=until)
        except InputError as error:
            raise InputError(f'freeze_until: {error}') from error
        reference = weakref.ref(self)
        for parameter in self._parameters:
            if parameter.requires_grad:
                parameter.register_hook(lambda gradient: _zeroed(reference(), gradient))
        handle = register_optimizer_step_pre_hook(lambda *_: _drop_gradients(reference()))
        weakref.finalize(self, handle.remove)

    def update(self, step: int, max_steps: int | None) -> None:
        """Sets whether the parameters are frozen in iteration `step` (from 0) of `max_steps`."""
        self.active = self._schedule is None or not self._schedule.at(step, max_steps)

    def __deepcopy__(self, memo: dict[int, Any]) -> Freezing:
        # A copy of the model, such as averaged weights, is not trained and needs no hooks.
        return self


def _zeroed(freezing: Freezing | None, gradient: Tensor) -> Tensor:
    return torch.zeros_like(gradient) if freezing is not None and freezing.active else gradient


def _drop_gradients(freezing: Freezing | None) -> None:
    if freezing is not None and freezing.active:
        for parameter in freezing._parameters:
            parameter.grad = None
