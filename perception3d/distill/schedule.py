"""How the weight of a link changes while a network is trained."""

from __future__ import annotations

from dataclasses import dataclass

from perception3d.checks import InputError


@dataclass(frozen=True)
class WeightSchedule:
    """Nothing before `start`, then a linear rise over `ramp`; from `decay_start` on a linear fall over `decay`.

    Each is a number of iterations, or as a float between 0 and 1 a share of the whole training. With `every` = k there
    is something in iterations 0, k, 2k, ... alone, and k times as much, so that the mean stays about the same.

    Attributes:
        weight: the full weight.
        start: when the link begins.
        ramp: how long the weight rises to its full value.
        decay_start: when it begins to fall; None for never.
        decay: how long the fall lasts; None for the rest of the training.
        decay_to: the share of the weight that is left after the fall.
        every: iterations from one with the link to the next.
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
            raise InputError(f'weight={self.weight}: give a number from 0 on; a link never pushes the ends apart')
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise InputError(f'every={self.every}: give a number of iterations from 1 on')
        for name in ('start', 'ramp', 'decay_start', 'decay'):
            value = getattr(self, name)
            if value is not None and (value < 0 or (isinstance(value, float) and value > 1)):
                raise InputError(
                    f'{name}={value}: give iterations as an int, or a share of the training as a float from 0 to 1'
                )

        if not 0 <= self.decay_to <= 1:
            raise InputError(f'decay_to={self.decay_to}: give the share of the weight that is left, from 0 to 1')
        if self.decay_start is None and (self.decay is not None or self.decay_to):
            raise InputError('decay and decay_to need decay_start: when the weight begins to fall')

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
            rest = self._iterations(1.0, max_steps) - begin if self.decay is None else None
            span = rest if rest is not None else self._iterations(self.decay, max_steps)
            fallen = min(1.0, max(0.0, (step - begin + 1) / max(span, 1)))
            weight *= 1 - fallen * (1 - self.decay_to)
        return weight * self.every

    @staticmethod
    def _iterations(value: int | float, max_steps: int | None) -> float:
        if not isinstance(value, float):
            return value
        if value == 0:
            return 0
        if max_steps is None:
            raise InputError('the length of the training is not known here: give the schedule of a link in iterations')
        return value * max_steps
