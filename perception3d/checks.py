"""Errors that a user can act on: what was expected, what came, and the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Something that the user handed in cannot be used.

    The text is one line: what is wrong, which file, what to do. Tools print it without a traceback and exit with 2.
    """

    def __init__(self, message: str) -> None:
        text = str(message)
        if 'Original Traceback' in text:
            # torch builds the error of a loader's worker anew from its traceback, which ends with the text.
            text = text.rpartition(f'{type(self).__qualname__}: ')[2]
        super().__init__(' '.join(text.split()))


def nearest_names(name: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """Returns up to `n` of `choices` that resemble `name`, best first; a match of the last dotted part counts too."""
    choices = sorted(set(map(str, choices)))
    close = difflib.get_close_matches(str(name), choices, n=n, cutoff=0.5)
    leaf = str(name).rsplit('.', 1)[-1]
    same_leaf = [c for c in choices if c.rsplit('.', 1)[-1] == leaf and c not in close]
    return (close + same_leaf)[:n]


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Builds the error for a `kind` (such as 'camera') called `name` that is not among `choices`."""
    choices = sorted(set(map(str, choices)))
    close = nearest_names(name, choices)
    if close:
        return InputError(f'unknown {kind} {name!r}: did you mean {" or ".join(map(repr, close))}?')
    listed = ', '.join(choices[:12]) + (', ...' if len(choices) > 12 else '')
    return InputError(f'unknown {kind} {name!r}: choose one of {listed or "(none are known)"}')


def require_file(path: str | Path, hint: str = '') -> Path:
    """Returns `path` as a Path if it is a file; raises InputError with `hint` (what to do) otherwise."""
    path = Path(path)
    if not path.is_file():
        what = 'is a folder, not a file' if path.is_dir() else 'does not exist'
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
