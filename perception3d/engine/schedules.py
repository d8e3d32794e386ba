"""Schedules given in epochs, for trainings so short that a part of one would round down to no iteration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def with_whole_parts(schedules: Any, epoch_length: int) -> Any:
    """Returns settings of schedules in which each part that is converted to iterations has one or more of them.

    mmengine rounds `begin` and `end` of a part with `convert_to_iter_based` down to whole iterations, and refuses a
    part that is empty then, as the rise of a schedule in a training of two iterations. Here an edge within the first
    iteration becomes the end of it, and a part that is empty all the same is left out. So is a rise by a factor
    (LinearLR, ConstantLR) of one iteration: mmengine would apply its first factor and never the second, and the whole
    training would have that rate. Nothing else changes. Any other part of one iteration keeps the value with which it
    begins.

    Args:
        schedules: `param_scheduler` of a config: a dict, a list of them, or a dict of lists for several optimizers.
        epoch_length: iterations of an epoch.
    """
    if isinstance(schedules, Mapping) and 'type' not in schedules:
        return {name: with_whole_parts(part, epoch_length) for name, part in schedules.items()}
    parts = schedules if isinstance(schedules, (list, tuple)) else [schedules]
    return [fitted for part in parts if (fitted := _fitted(part, epoch_length)) is not None]


def _fitted(part: Any, epoch_length: int) -> Any:
    """Returns the part as it is, moved, or None where it is left out."""
    if not isinstance(part, Mapping) or not part.get('convert_to_iter_based'):
        return part
    begin, end = part.get('begin', 0), part.get('end', math.inf)
    first, last = _iteration(begin, epoch_length), _iteration(end, epoch_length)
    if begin < end and (first == last or (_is_factor(part) and int(last) - int(first) == 1)):
        return None
    rounded_up = [x for x in (begin, end) if 0 < x * epoch_length < 1]
    if not rounded_up:
        return part
    # Half an iteration more, since mmengine rounds down what floats may have made smaller.
    moved = {**part, 'begin': (first + 0.5) / epoch_length if first else 0}
    if math.isfinite(end):
        moved['end'] = (last + 0.5) / epoch_length
        if 'T_max' in part and math.isclose(part['T_max'], end - begin):
            moved['T_max'] = (last - first) / epoch_length
    return moved


def _is_factor(part: Mapping[str, Any]) -> bool:
    """Whether a part that ends multiplies the value by factors of its own."""
    return math.isfinite(part.get('end', math.inf)) and ('start_factor' in part or 'factor' in part)


def _iteration(epochs: float, epoch_length: int) -> float:
    """The iteration at which a part begins or ends."""
    if not 0 < epochs < math.inf:
        return epochs
    return max(1, int(epochs * epoch_length))
