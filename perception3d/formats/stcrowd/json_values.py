"""Values of STCrowd's JSON: numbers may be texts, and errors name the place and the key."""

from __future__ import annotations

from typing import Any

from perception3d.checks import InputError, is_number, is_whole, number_of_word
from perception3d.formats.stcrowd.rules import OCCLUSIONS


def number_of(place: str, key: str, value: Any) -> float:
    """Returns a finite number; InputError for anything else."""
    number = _as_number(value)
    if not is_number(number):
        raise InputError(f'{place}: {key} is {str(value)[:80]!r}, expected a finite number')
    return float(number)


def whole_of(place: str, key: str, value: Any) -> int:
    """Returns a whole number; InputError for anything else."""
    number = _as_number(value)
    if not is_whole(number):
        raise InputError(f'{place}: {key} is {str(value)[:80]!r}, expected a whole number')
    return int(number)


def _as_number(value: Any) -> Any:
    """Returns the number that a text is, any other value as it is."""
    try:
        return number_of_word(value) if isinstance(value, str) else value
    except ValueError:
        return value


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
    level = _as_number(value)
    return int(level) if is_number(level) and level in OCCLUSIONS else None
