"""Pickles that hold data alone: each name that a file may use, checked by what it is called with.

A pickle is a program. Before a file is read for real, it is run once on stand-ins that only check: no name outside the
list is looked up, and nothing of numpy is called. This matters because harmless-looking names are enough to harm:
`numpy.ndarray` over a buffer with the dtype of objects reads foreign memory, and `numpy.dtype` can be given a wrong
size. What passes is then read with the true classes, and does the same calls with the same arguments.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from perception3d.checks import InputError
from perception3d.pickle_scan import refuse_deep_tuples

_TYPE_CODE = re.compile(r'(?:b1|i[1248]|u[1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SU](\d{1,9}))')
_STATE_TYPES = [int, str, type(None), type(None), type(None), int, int, int]
_LATIN = ('latin1', 'latin-1', 'iso-8859-1')


def _refuse(what: str) -> InputError:
    return InputError(f'it holds {what}, which a plain data file never needs')


class _Callable:
    """A name of the list that may be called; it keeps nothing, and the file cannot change it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise _refuse(f'a state for {type(self).__name__.strip("_")}')


class _DType:
    """Stands for a dtype: its type code, and its size once the state is known."""

    __slots__ = ('code', 'itemsize')
    # Not hashable, as what it stands for; typeshed writes it in the same way.
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, code: str, itemsize: int) -> None:
        self.code, self.itemsize = code, itemsize

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags); flag 8: its memory begins as zeros.
        if not isinstance(state, tuple) or [type(item) for item in state] != _STATE_TYPES or state[0] != 3:
            raise _refuse('an array of records or dates')
        sizes = (self.itemsize, 4 if self.code[0] == 'U' else 1) if self.code[0] in 'SU' else (-1, -1)
        if state[1] not in ('<', '>', '|', '=') or state[5:7] != sizes or state[7] not in (0, 8):
            raise _refuse('a number type with another size than its own')


class _MakeDType(_Callable):
    """`numpy.dtype(code, align, copy)`: numbers and texts; never objects, and never numpy's own shared instance."""

    __slots__ = ()

    def __call__(self, code: Any, align: Any = False, copy: Any = False) -> _DType:
        match = _TYPE_CODE.fullmatch(code) if isinstance(code, str) else None
        if isinstance(code, str) and code.startswith('O'):
            raise InputError('it holds an array of Python objects (dtype object): store numbers or texts')
        if not match or type(align) not in (bool, int) or type(copy) not in (bool, int) or align or not copy:
            raise _refuse(f'an array of type {str(code)[:20]!r}')
        # A character of a numpy text takes 4 bytes.
        size = int(code[1:]) * (4 if code[0] == 'U' else 1)
        return _DType(code, size)


class _ArrayClass:
    """`numpy.ndarray`: a name to hand on, never called."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise _refuse('a state for numpy.ndarray')


class _Array:
    """Stands for an array: its state gives the shape, the type and the bytes, whose number must fit."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # as _DType

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5 and state[0] == 1 and type(state[3]) in (bool, int)):
            raise _refuse('an array in an unknown layout')
        _check_array(state[1], state[2], state[4])


def _check_array(shape: Any, dtype: Any, raw: Any) -> None:
    if isinstance(raw, str):
        # The bytes of a file of Python 2, read with encoding='latin1'; numpy encodes them in the same way.
        raw = raw.encode('latin1')
    if not isinstance(dtype, _DType) or not isinstance(raw, (bytes, bytearray)):
        raise _refuse('an array without plain numbers')
    if not (isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape) and len(shape) <= 32):
        raise _refuse('an array of an impossible shape')
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise InputError(
            f'it holds an array of shape {shape} with {len(raw)} bytes in place of {math.prod(shape) * dtype.itemsize}'
        )


class _Reconstruct(_Callable):
    """`_reconstruct(ndarray, (0,), b'b')`: numpy's empty array, which takes its content as a state."""

    __slots__ = ()

    def __call__(self, subtype: Any, shape: Any, code: Any) -> _Array:
        if not isinstance(subtype, _ArrayClass) or shape != (0,) or code not in (b'b', 'b'):
            raise _refuse('an array of another class than numpy.ndarray')
        return _Array()


class _FromBuffer(_Callable):
    """`_frombuffer(bytes, dtype, shape, order)`: arrays of protocol 5."""

    __slots__ = ()

    def __call__(self, raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        if order not in ('C', 'F'):
            raise _refuse('an array in an unknown layout')
        _check_array(shape, dtype, raw)
        return _Array()


class _Scalar(_Callable):
    """`scalar(dtype, bytes)`: one number of numpy."""

    __slots__ = ()

    def __call__(self, dtype: Any, raw: Any) -> object:
        _check_array((), dtype, raw)
        # It may be a key of a dict, and is equal to nothing that a check compares with.
        return object()


class _Encode(_Callable):
    """`_codecs.encode(text, 'latin1')`: bytes in the protocols before 3; other codecs would be imported."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or encoding not in _LATIN:
            raise _refuse(f'a text in the encoding {str(encoding)[:20]!r}')
        return text.encode('latin1')


class _NoBytes(_Callable):
    """`bytes()`: how the protocols before 3 write b''; bytes(10**12) would fill the memory."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b''


_NUMPY = {
    ('numpy', 'ndarray'): _ArrayClass(),
    ('numpy', 'dtype'): _MakeDType(),
    **{
        (f'numpy.{core}.{module}', name): stand_in
        for core in ('core', '_core')
        for module, name, stand_in in (
            ('multiarray', '_reconstruct', _Reconstruct()),
            ('multiarray', 'scalar', _Scalar()),
            ('numeric', '_frombuffer', _FromBuffer()),
        )
    },
}
_NAMES = {
    **_NUMPY,
    ('_codecs', 'encode'): _Encode(),
    ('collections', 'OrderedDict'): OrderedDict,
    **{
        (module, name): made
        for module in ('builtins', '__builtin__')
        for name, made in (('bytes', _NoBytes()), ('set', set), ('frozenset', frozenset))
    },
}


class _PlainUnpickler(pickle.Unpickler):
    """Runs a pickle on stand-ins; `used` are the names that it asked for."""

    def __init__(self, file: BinaryIO, **settings: Any) -> None:
        super().__init__(file, **settings)
        self.used: set[tuple[str, str]] = set()

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in of a name on the list; InputError otherwise."""
        if (module, name) not in _NAMES:
            raise _refuse(f'{module}.{name}')
        self.used.add((module, name))
        return _NAMES[module, name]


class _TrueUnpickler(pickle.Unpickler):
    """Reads what the stand-ins have let pass."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the class if it is on the list; InputError otherwise."""
        if (module, name) not in _NAMES:
            raise _refuse(f'{module}.{name}')
        try:
            return super().find_class(module, name)
        except ImportError:
            # A file of numpy 2, whose core has another name than the one of numpy 1.
            return super().find_class(module.replace('numpy._core', 'numpy.core'), name)


def load_plain_pickle(file: BinaryIO, **settings: Any) -> Any:
    """Returns the content of a data pickle: containers, numbers, texts, and numpy arrays of numbers and texts.

    Args:
        file: open for reading bytes, and able to seek.
        settings: those of `pickle.load`, such as encoding='latin1' for files of Python 2.

    Raises:
        InputError: it names something else, calls a name of the list with other than data, or holds tuples that are
            too deep.
        UnpicklingError: it is damaged.
    """
    start = file.tell()
    try:
        refuse_deep_tuples(file)
        checked = _PlainUnpickler(file, **settings)
        content = checked.load()
        if not checked.used & _NUMPY.keys():
            return content
        del content
        file.seek(start)
        return _TrueUnpickler(file, **settings).load()
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [''])[0][:120] or type(error).__name__
        raise pickle.UnpicklingError(f'is not a readable pickle ({reason}): create it again') from error


class _Anything:
    """Stands for all that torch makes and checks itself; keeps what it was made with."""

    args: tuple[Any, ...]

    def __new__(cls, *args: Any) -> _Anything:
        self = super().__new__(cls)
        object.__setattr__(self, 'args', args)
        return self

    def __setstate__(self, state: Any) -> None:
        object.__setattr__(self, 'args', (*self.args, state))

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Takes an item, as a list does."""

    def extend(self, items: Any) -> None:
        """Takes items, as a list does."""


class _Storage:
    """Stands for the memory of a tensor, `key` being its record in the file."""

    def __init__(self, key: str) -> None:
        self.key = key


class _TensorUnpickler(_PlainUnpickler):
    """Checks what a checkpoint holds of numpy; all other names are checked by torch's own list."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns a stand-in, which runs nothing; InputError for names of numpy that are not on the list."""
        if (module, name) in _NAMES:
            return _NAMES[module, name]
        if module.partition('.')[0] == 'numpy':
            raise InputError(f'it holds {module}.{name}, which no checkpoint needs')
        return _Anything

    def persistent_load(self, pid: Any) -> _Storage:
        """Returns the stand-in of a tensor's memory."""
        return _Storage(str(pid[2]) if isinstance(pid, tuple) and len(pid) > 2 else '')


def check_tensor_pickle(file: BinaryIO) -> Any:
    """Runs the pickle of a torch file, at the position of `file`, on stand-ins; returns what they made.

    Raises:
        InputError: it holds more of numpy than plain arrays.
        ValueError: it is damaged.
    """
    refuse_deep_tuples(file)
    try:
        return _TensorUnpickler(file).load()
    except pickle.UnpicklingError as error:
        raise ValueError(str(error)) from error


def tensor_names(content: Any, prefix: str = '') -> Iterator[tuple[str, str]]:
    """Yields (record, dotted name) of each tensor in what `check_tensor_pickle` returned."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from tensor_names(value, f'{prefix}{key}.')
    elif isinstance(content, (list, tuple)):
        for number, value in enumerate(content):
            yield from tensor_names(value, f'{prefix}{number}.')
    elif isinstance(content, _Anything):
        for key in _storages(content.args):
            yield key, prefix.rstrip('.').removeprefix('state_dict.')


def _storages(args: Any) -> Iterator[str]:
    for item in args if isinstance(args, tuple) else ():
        if isinstance(item, _Storage):
            yield item.key
        yield from _storages(item.args if isinstance(item, _Anything) else item)
