"""Noticing a loss that is no number, without waiting for the device in every step."""

from __future__ import annotations

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

    def look(self, name: str, value: Tensor, step: int) -> None:
        """Notes whether `value` of link `name` is finite.

        Raises:
            InputError: it was not, in this step or in one since the last look; names link and step.
        """
        bad = torch.where(value.isfinite(), -1, step)
        before = self._first.get(name)
        self._first[name] = bad if before is None else torch.where(before < 0, bad, before)
        if value.device.type != 'cpu' and step % self.interval:
            return
        first = int(self._first.pop(name))
        if first >= 0:
            raise InputError(
                f'link {name!r}: its loss is not finite in iteration {first}: check what it compares, its weight, and '
                'the learning rate; the last checkpoint was written before'
            )
