"""Finds tuples in a pickle that would crash or block the process which reads it, before it is read.

Python computes the hash of a tuple again for each use as a key, without a limit of depth: a deep one overflows the
stack of the process, and one whose parts are shared takes exponential time. Neither can be caught while reading.
"""

from __future__ import annotations

import pickletools
import re
from typing import Any, BinaryIO

from perception3d.checks import InputError

_MOST_PARTS = 10_000
_MOST_KEY_PARTS = 100
# What makes neither tuples nor sets, and takes a fixed number of bytes: nearly all of a large file of frames.
_PLAIN = re.compile(rb'(?:G.{8}|h.|[\x94\](}eusaN\x88\x89)]|[Kq].|[jJr].{4}|\x95.{8}|M..|\x80.){1,5000}', re.DOTALL)
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_MARK, _SLICE = pickletools.markobject, pickletools.stackslice


def _effect(code: Any) -> tuple[str, int, int, bool, int, int]:
    """An opcode's name, bytes of its argument and of the length of that, whether it takes all to the mark, and items.

    These are the items that it takes and that it leaves; a negative number of bytes is a number of lines.
    """
    size = 0 if code.arg is None else code.arg.n
    before = [item for item in code.stack_before if item not in (_MARK, _SLICE)]
    if _MARK in code.stack_before:
        before = list(code.stack_before[: code.stack_before.index(_MARK)])
    lines = 2 if code.name in ('GLOBAL', 'INST') else 1
    size = -lines if size == pickletools.UP_TO_NEWLINE else max(size, 0) if size >= 0 else 0
    length = _LENGTH_BYTES.get(code.arg.n, 0) if code.arg is not None else 0
    return code.name, size, length, _MARK in code.stack_before, len(before), len(code.stack_after)


_EFFECTS = {ord(code.code): _effect(code) for code in pickletools.opcodes}
_PUTS = {'PUT', 'BINPUT', 'LONG_BINPUT'}
_GETS = {'GET', 'BINGET', 'LONG_BINGET'}
_PUSHES = {
    name
    for name, _, _, to_mark, before, after in _EFFECTS.values()
    if not to_mark and (before, after) == (0, 1) and name not in {'MARK', *_GETS}
}
_TUPLES = {'TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3', 'FROZENSET'}


def refuse_deep_tuples(file: BinaryIO) -> None:
    """Raises InputError if the pickle at the position of `file` holds a tuple that is too deep or too large a key.

    The position stays. A damaged pickle passes: what reads it stops at the same place.
    """
    start = file.tell()
    data = file.read()
    file.seek(start)
    try:
        if not _is_plain(data):
            _scan(data)
    except (IndexError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise


def _is_plain(data: bytes) -> bool:
    place = 0
    while True:
        match = _PLAIN.match(data, place)
        if match:
            place = match.end()
            continue
        code = data[place]
        if code in b'.':
            return True
        if code == 0x8C:  # SHORT_BINUNICODE
            place += 2 + data[place + 1]
        elif code in b'X':  # BINUNICODE
            place += 5 + int.from_bytes(data[place + 1 : place + 5], 'little')
        else:
            return False


def _scan(data: bytes) -> None:
    """Runs the pickle on numbers: each item is how many parts it has as a tuple, with those of its parts; others 0."""
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    place = 0
    while True:
        name, size, length, to_mark, before, after = _EFFECTS[data[place]]
        begin = place = place + 1
        if length:
            place += length + int.from_bytes(data[place : place + length], 'little')
        elif size < 0:
            for _ in range(-size):
                place = data.index(b'\n', place) + 1
        else:
            place += size
        if name in _PUSHES:
            stack.append(0)
        elif name == 'STOP':
            return
        elif name == 'MARK':
            marks.append(len(stack))
        elif name == 'MEMOIZE':
            memo[len(memo)] = stack[-1]
        elif name in _PUTS:
            memo[_number(name, data[begin:place])] = stack[-1]
        elif name in _GETS:
            stack.append(memo[_number(name, data[begin:place])])
        elif name == 'DUP':
            stack.append(stack[-1])
        elif name == 'POP' and marks and marks[-1] == len(stack):
            marks.pop()
        else:
            cut = marks.pop() if to_mark else len(stack) - before
            items = stack[cut:]
            kept = stack[cut - before : cut] if to_mark else []
            del stack[cut - before if to_mark else cut :]
            stack.extend(_made(name, items, kept, after))


def _number(name: str, argument: bytes) -> int:
    return int(argument) if name in ('GET', 'PUT') else int.from_bytes(argument, 'little')


def _made(name: str, items: list[int], kept: list[int], after: int) -> list[int]:
    """The items that an opcode leaves in place of those that it takes."""
    keys = items[1:2] if name == 'SETITEM' else items[::2] if name in ('SETITEMS', 'DICT') else []
    keys = items if name in ('ADDITEMS', 'FROZENSET') else keys
    if keys and max(keys) > _MOST_KEY_PARTS:
        raise InputError(f'it holds a key of more than {_MOST_KEY_PARTS} parts, which a plain data file never needs')
    if name in _TUPLES:
        nested = sum(items)
        if nested > _MOST_PARTS:
            raise InputError(
                f'it holds a tuple of tuples with more than {_MOST_PARTS} parts, which a plain data file never needs: '
                'store lists or arrays'
            )
        return [1 + len(items) + nested]
    if name == 'BUILD':
        # A state of None leaves the item as it is.
        return items[:1]
    return kept[:after] if kept else [0] * after
