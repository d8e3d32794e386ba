"""Noticing a loss that is no number, without waiting for the device in every step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from perception3d.checks import InputError


class FiniteWatch:
    """Raises when the value of a link is NaN or infinite: at once on the CPU, within `interval` steps on a device.

    Args:
        interval: steps between looks at what a device has found.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._first: dict[str, Tensor] = {}

    def note(self, name: str, value: Tensor, step: int) -> None:
        """Notes whether `value` of link `name` is finite; on a device nothing waits for it.

        Raises:
            InputError: it is not, on the CPU.
        """
        if value.device.type == 'cpu':
            if not math.isfinite(value.item()):
                raise _not_finite(name, step)
            return
        bad = torch.where(value.isfinite(), -1, step)
        before = self._first.get(name)
        self._first[name] = bad if before is None else torch.where(before < 0, bad, before)

    def end_step(self, step: int) -> None:
        """Looks when it is time, also at links that were not active in this step; errors as in `look`."""
        if self._first and step % self.interval == 0:
            self.look()

    def look(self) -> None:
        """Reads all that was noted since the last look.

        Raises:
            InputError: a value was not finite; names link and step.
        """
        noted, self._first = self._first, {}
        for name, first in noted.items():
            if int(first) >= 0:
                raise _not_finite(name, int(first))


def _not_finite(name: str, step: int) -> InputError:
    return InputError(
        f'link {name!r}: its loss is not finite in iteration {step}: check what it compares, its weight, and the '
        'learning rate; the last checkpoint was written before'
    )
