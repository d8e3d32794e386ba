"""How the weight of a link changes during a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from perception3d.checks import InputError


@dataclass(frozen=True)
class WeightSchedule:
    """Zero before `start`, then a linear rise over `ramp`; from `decay_start` on a linear decrease over `decay`.

    These are iterations as an int, or a share of the whole training as a float between 0 and 1. With `every` = k the
    weight is non-zero only in iterations 0, k, 2k, ..., where it is k times as large, so that its mean stays about the
    same.

    Attributes:
        weight: the full weight.
        start: when the link begins.
        ramp: how long the weight rises to its full value.
        decay_start: when it begins to decrease; None for never.
        decay: how long the decrease lasts; None for the rest of the training.
        decay_to: the share of the weight that remains after the decrease.
        every: the link is active in one of so many iterations.
    """

    weight: float = 1.0
    start: int | float = 0
    ramp: int | float = 0
    decay_start: int | float | None = None
    decay: int | float | None = None
    decay_to: float = 0.0
    every: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float('inf'):
            raise InputError(f'invalid weight={self.weight}: expected a finite number of 0 or more')
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise InputError(f'invalid every={self.every}: expected a number of iterations, 1 or more')
        for name in ('start', 'ramp', 'decay_start', 'decay'):
            value = getattr(self, name)
            if value is not None and (value < 0 or (isinstance(value, float) and value > 1)):
                raise InputError(
                    f'invalid {name}={value}: expected iterations as an int, or a share of the training as a float '
                    'from 0 to 1'
                )
        if not 0 <= self.decay_to <= 1:
            raise InputError(
                f'invalid decay_to={self.decay_to}: expected the share of the weight that remains, from 0 to 1'
            )
        if self.decay_start is None and (self.decay is not None or self.decay_to):
            raise InputError('decay and decay_to need decay_start: set it to when the weight begins to decrease')

    def at(self, step: int, max_steps: int | None) -> float:
        """The weight in iteration `step` (from 0) of `max_steps`.

        Raises:
            InputError: the schedule counts in shares, and the length of the training is not known.
        """
        start, ramp = self._iterations(self.start, max_steps), self._iterations(self.ramp, max_steps)
        if step < start or step % self.every:
            return 0.0
        weight = self.weight * min(1.0, (step - start + 1) / ramp) if ramp else self.weight
        if self.decay_start is not None:
            begin = self._iterations(self.decay_start, max_steps)
            if self.decay is None:
                span = self._iterations(1.0, max_steps) - begin
            else:
                span = self._iterations(self.decay, max_steps)
            fallen = min(1.0, max(0.0, (step - begin + 1) / max(span, 1)))
            weight *= 1 - fallen * (1 - self.decay_to)
        return weight * self.every

    def begins(self, max_steps: int | None) -> int:
        """The first iteration of `max_steps` from which on the weight is not zero, but for `every`; errors as `at`."""
        return math.ceil(self._iterations(self.start, max_steps))

    @staticmethod
    def _iterations(value: int | float, max_steps: int | None) -> float:
        if not isinstance(value, float):
            return value
        if value == 0:
            return 0
        if max_steps is None:
            raise InputError(
                'the length of the training is not known here: write the schedule of the link in iterations (int)'
            )
        return value * max_steps
