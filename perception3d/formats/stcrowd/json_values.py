"""Values of STCrowd's JSON: numbers may be texts, and errors name the place and the key."""

from __future__ import annotations

import math
from typing import Any

from perception3d.checks import InputError
from perception3d.formats.stcrowd.rules import OCCLUSIONS


def number_of(place: str, key: str, value: Any) -> float:
    """Returns a finite number; InputError for anything else."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f'{place}: {key} is {value!r}, expected a number') from None
    if not math.isfinite(number):
        raise InputError(f'{place}: {key} is {value}, which is not finite')
    return number


def whole_of(place: str, key: str, value: Any) -> int:
    """Returns a whole number; InputError for anything else."""
    number = number_of(place, key, value)
    if number != int(number):
        raise InputError(f'{place}: {key} is {value}, expected a whole number')
    return int(number)


def triple_of(place: str, key: str, value: Any) -> tuple[float, float, float]:
    """Returns the numbers of {'x', 'y', 'z'}; InputError for anything else."""
    if not isinstance(value, dict):
        raise InputError(f'{place}: {key} is {value!r}, expected numbers x, y, z')
    x, y, z = (number_of(place, f'{key}.{axis}', value.get(axis)) for axis in 'xyz')
    return x, y, z


def pair_of(place: str, key: str, value: Any) -> tuple[float, float]:
    """Returns the numbers of {'x', 'y'}; InputError for anything else."""
    if not isinstance(value, dict):
        raise InputError(f'{place}: {key} is {value!r}, expected numbers x, y')
    x, y = (number_of(place, f'{key}.{axis}', value.get(axis)) for axis in 'xy')
    return x, y


def occlusion_of(value: Any) -> int | None:
    """Returns a level of occlusion, None for anything that is not one: then it is unknown."""
    try:
        level = float(value)
    except (TypeError, ValueError):
        return None
    return int(level) if level in OCCLUSIONS else None
