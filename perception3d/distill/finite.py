"""Finds losses that are NaN or infinite, without a device synchronisation in every step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from perception3d.checks import InputError


class FiniteCheck:
    """Raises when the value of a link is NaN or infinite: at once on the CPU, within `interval` steps on a GPU.

    Args:
        interval: steps between two reads of what was recorded on the GPU.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._first_bad_step: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor, step: int) -> None:
        """Records whether `value` of link `name` is finite; on a GPU without waiting for it.

        Raises:
            InputError: it is not finite, on the CPU.
        """
        if value.device.type == 'cpu':
            if not math.isfinite(value.item()):
                raise _not_finite(name, step)
            return
        bad = torch.where(value.isfinite(), -1, step)
        before = self._first_bad_step.get(name)
        self._first_bad_step[name] = bad if before is None else torch.where(before < 0, bad, before)

    def end_step(self, step: int) -> None:
        """Calls `check` every `interval` steps, also for links that were not active in this step."""
        if self._first_bad_step and step % self.interval == 0:
            self.check()

    def check(self) -> None:
        """Reads everything that was recorded since the last check.

        Raises:
            InputError: a value was not finite; names link and step.
        """
        recorded, self._first_bad_step = self._first_bad_step, {}
        for name, first in recorded.items():
            if int(first) >= 0:
                raise _not_finite(name, int(first))


def _not_finite(name: str, step: int) -> InputError:
    return InputError(
        f'link {name!r}: its loss is not finite in iteration {step}: check the features that it compares, its weight, '
        'and the learning rate; the last checkpoint was written before'
    )
