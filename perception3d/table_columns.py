"""Checks the rows of large tables column by column: what each field must be, and the first row where it is not.

A column is checked at once, most of it by numpy, since tables have millions of rows. Only where a column is wrong, its
rows are looked at one by one, so that the error names the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError

_SHOWN = 80


@dataclass(frozen=True)
class Column:
    """What the values of a field must be.

    expected: in words, for the error. holds: whether all values of a list, which is not empty, are so.
    """

    expected: str
    holds: Callable[[list[Any]], bool]


def _has_types(*types: type) -> Callable[[list[Any]], bool]:
    return lambda values: set(map(type, values)) <= set(types)


TEXT = Column('a text', _has_types(str))
TOKEN = Column('a token, which is a text and not empty', lambda values: _has_types(str)(values) and all(values))
TOKENS = Column('a list of tokens', lambda values: all(type(v) is list and _has_types(str)(v) for v in values))
YES_OR_NO = Column('true or false', _has_types(bool))


def numbers(
    expected: str, shape: tuple[int, ...], rule: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None
) -> Column:
    """Returns the column of finite numbers in nested lists of a shape, () for a number alone.

    `rule` takes the values (rows, *shape) and returns for which rows they are right.
    """

    def holds(values: list[Any]) -> bool:
        try:
            array = np.array(values)
        except ValueError:  # rows of different lengths
            return False
        # Texts, whole numbers above 64 bits and null give other kinds than integers and floats.
        if array.dtype.kind not in 'iuf' or array.shape[1:] != shape or not np.isfinite(array).all():
            return False
        return rule is None or bool(np.all(rule(array)))

    return Column(expected, holds)


def whole(expected: str, smallest: int) -> Column:
    """Returns the column of whole numbers, `smallest` or more, that fit into 63 bits."""
    return numbers(expected, (), lambda a: (a >= smallest) & (a == np.floor(a)) & (a < 2.0**63))


def check_rows(place: str, rows: Any, columns: Mapping[str, Column]) -> None:
    """Raises InputError unless `rows` is a list of dicts with these fields; further fields are not looked at.

    The error names `place`, the row, by its token if it has one, the field, and what was expected.
    """
    if not isinstance(rows, list) or not set(map(type, rows)) <= {dict}:
        raise InputError(f'{place} must be a list of rows, each a dict of fields: write or download it again')
    if not rows:
        return
    for key, column in columns.items():
        try:
            values = [row[key] for row in rows]
        except KeyError:
            row = next(row for row in rows if key not in row)
            raise InputError(f'{place}: {_name(rows, row)} has no {key}: expected {column.expected}') from None
        if not column.holds(values):
            row = next(row for row in rows if not column.holds([row[key]]))
            shown = repr(row[key])
            shown = shown if len(shown) <= _SHOWN else f'{shown[:_SHOWN]}..'
            raise InputError(f'{place}: {_name(rows, row)}: {key} is {shown}, expected {column.expected}')


def index_tokens(place: str, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns token -> row of checked rows; InputError where two rows have one token."""
    index = {row['token']: row for row in rows}
    if len(index) < len(rows):
        # The index keeps the later one of two rows.
        twice = next(row['token'] for row in rows if index[row['token']] is not row)
        raise InputError(f'{place}: two rows have the token {twice!r}: remove one')
    return index


def check_links(place: str, rows: list[dict[str, Any]], key: str, known: Mapping[str, Any], target: str) -> None:
    """Raises InputError unless the token in field `key` of every row, or all in its list, is in the table `target`."""
    for row in rows:
        value = row[key]
        for token in value if isinstance(value, list) else (value,):
            if token not in known:
                raise InputError(f'{place}: {_name(rows, row)}: {key} is {token!r}, which {target} does not have')


def _name(rows: list[dict[str, Any]], row: dict[str, Any]) -> str:
    token = row.get('token')
    if isinstance(token, str):
        return f'row {token!r}'
    return f'row {next(i for i, other in enumerate(rows) if other is row) + 1}'
