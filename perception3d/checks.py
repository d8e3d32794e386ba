"""Errors that a user can act on: what was expected, what came, and the nearest valid name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """Something that the user handed in cannot be used.

    The text is one line: what is wrong, which file, what to do. Tools print it without a traceback and exit with 2.
    """

    def __init__(self, message: str) -> None:
        text = str(message)
        if 'Original Traceback' in text:
            # torch builds the error of a loader's worker again from its traceback, which ends with the text.
            text = text.rpartition(f'{type(self).__qualname__}: ')[2]
        super().__init__(' '.join(text.split()))


def nearest_names(name: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """Returns up to `n` of `choices` that resemble `name`, best first; a match of the last dotted part counts too."""
    choices = sorted(set(map(str, choices)))
    close = difflib.get_close_matches(str(name), choices, n=n, cutoff=0.5)
    leaf = str(name).rsplit('.', 1)[-1]
    same_leaf = [c for c in choices if c.rsplit('.', 1)[-1] == leaf and c not in close]
    return (close + same_leaf)[:n]


def unknown_name(what: str, name: str, choices: Iterable[str]) -> InputError:
    """Builds the error for a `what` (such as 'camera') called `name` that is not among `choices`."""
    choices = sorted(set(map(str, choices)))
    close = nearest_names(name, choices)
    if close:
        return InputError(f'unknown {what} {name!r}: did you mean {" or ".join(map(repr, close))}?')
    listed = ', '.join(choices[:12]) + (', ...' if len(choices) > 12 else '')
    return InputError(f'unknown {what} {name!r}: choose one of {listed or "(none are known)"}')


def is_number(value: Any) -> bool:
    """Returns whether a value of a JSON file is a number that a float can hold, NaN and infinity left out.

    Whole numbers of a JSON file have any length: 1 with 400 zeros is none of these.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_whole(value: Any) -> bool:
    """Returns whether a value of a JSON file is a whole number, 4 or 4.0, that fits into 64 bits with a sign."""
    return is_number(value) and value == int(value) and -(2**63) <= int(value) < 2**63


def number_of_word(word: str) -> float:
    """Returns the number that a word of a text file is, NaN and infinity included; ValueError where it is none.

    Python also takes 1_3 for 13, and digits of other scripts: in a data file these are faults.
    """
    if '_' in word or not word.isascii():
        raise ValueError(f'{word!r} is not a number')
    return float(word)


def shown(values: Any) -> str:
    """Returns '[0, -40, 70.4]' for a list, an array or a tensor, and '4' for one number."""
    numbers = ', '.join(f'{number:g}' for number in _numbers(values))
    return f'[{numbers}]' if hasattr(values, '__len__') else numbers


def require_equal_numbers(place: str, value: Any, source: str, wanted: Any, tolerance: float = 1e-3) -> None:
    """Raises InputError unless the numbers `value` of `place` are `wanted`, those of `source`: "<place> is [..], but
    <source> [..]".

    Numbers of configs are decimal fractions, hence the tolerance.
    """
    numbers, others = _numbers(value), _numbers(wanted)
    if len(numbers) != len(others) or any(abs(a - b) > tolerance for a, b in zip(numbers, others)):
        raise InputError(f'{place} is {shown(value)}, but {source} {shown(wanted)}: both must be the same')


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in values] if hasattr(values, '__len__') else [float(values)]


def require_file(path: str | Path, hint: str = '') -> Path:
    """Returns `path` as a Path if it is a file; raises InputError with `hint` (what to do) otherwise."""
    path = Path(path)
    if not path.is_file():
        what = 'is no regular file' if path.exists() else 'does not exist'
        if path.is_dir():
            what = 'is a folder, not a file'
        raise InputError(f'{path} {what}{_tail(hint)}')
    return path


def require_folder(path: str | Path, hint: str = '') -> Path:
    """Returns `path` as a Path if it is a folder; raises InputError with `hint` (what to do) otherwise."""
    path = Path(path)
    if not path.is_dir():
        what = 'is a file, not a folder' if path.is_file() else 'does not exist'
        raise InputError(f'folder {path} {what}{_tail(hint)}')
    return path


def _tail(hint: str) -> str:
    return f': {hint}' if hint else ''
