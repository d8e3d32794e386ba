"""Files that would run code, and pickles that would crash the process, written for the tests of this folder.

Every payload makes the folder `ran` in the working directory when it runs.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import torch

MARK = 'ran'


class Call:
    """Pickles as a call of `function` with `arguments`, and a state if one is given."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self):
        return (self.function, self.arguments) if self.state is None else (self.function, self.arguments, self.state)


def runs(text: str = f"__import__('os').mkdir('{MARK}')") -> Call:
    """A call of eval."""
    return Call(eval, text)


def _number(dtype: str) -> Call:
    """A numpy dtype that hides objects: its state has a field that is not in its flags."""
    return Call(np.dtype, dtype, False, True, state=(3, '|', None, ('a',), {'a': (np.dtype('O'), 0)}, 8, 1, 0))


# Opcodes that no class writes by itself. The working directory gets the mark where one of them runs.
_INST = b"(S'" + MARK.encode() + b"'\nios\nmkdir\n."
_OBJECT = b'(cos\nmkdir\nX\x03\x00\x00\x00ran' + b'o.'
_STACK_GLOBAL = b'\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c\x03ran\x85R.'
_DOTTED = b'\x80\x04\x8c\x0fnumpy.lib.npyio\x8c\x08os.mkdir\x93\x8c\x03ran\x85R.'
_NUMPY_RUNS = b'cnumpy.testing._private.utils\nrunstring\n(S\'import os; os.mkdir("ran")\'\n(dtR.'
_PERSISTENT = b"cos\nmkdir\n(S'ran'\ntRPanything\n."

PICKLES: dict[str, bytes] = {
    **{f'protocol {number}': pickle.dumps({'data_list': [runs()]}, number) for number in range(6)},
    'mkdir': pickle.dumps([Call(Path.mkdir, Path(MARK))]),
    'exec': pickle.dumps(Call(exec, f"import os; os.mkdir('{MARK}')")),
    'INST': _INST,
    'OBJ': _OBJECT,
    'STACK_GLOBAL': _STACK_GLOBAL,
    'dotted name': _DOTTED,
    'numpy.testing': _NUMPY_RUNS,
    'persistent id': _PERSISTENT,
    'key of a dict': pickle.dumps({runs("__import__('os').mkdir('ran') or 1"): 1}),
    'in an array of objects': pickle.dumps(np.array([runs(), 1], object)),
    'state of a class': pickle.dumps(Call(getattr, np.ndarray, 'dumps', state={'a': runs()})),
}

# Nothing is called here but numpy and codecs; each of them crashes, lies or fills the memory.
CRASHES: dict[str, bytes] = {
    'ndarray over a buffer': pickle.dumps(Call(np.ndarray, (1,), np.dtype('O'), b'A' * 8), 2),
    'ndarray of floats': pickle.dumps(Call(np.ndarray, (1 << 40,), np.dtype('f8'), b'A' * 8), 4),
    'ndarray without a dtype state': b"cnumpy\nndarray\n((I1\ntcnumpy\ndtype\n(S'O'\ntRC\x08AAAAAAAAtR.",
    'new ndarray': b'\x80\x02cnumpy\nndarray\nK\x08\x85\x81.',
    'dtype with hidden objects': pickle.dumps(_number('V8'), 4),
    'dtype of another size': pickle.dumps(
        Call(np.dtype, 'U4', False, True, state=(3, '<', None, None, None, 1 << 30, 4, 8)), 4
    ),
    'dtype of numpy itself': pickle.dumps(
        Call(np.dtype, 'f8', False, False, state=(3, '>', None, None, None, -1, -1, 0)), 4
    ),
    'array of objects': pickle.dumps(np.array([None, 1]), 4),
    'array of records': pickle.dumps(np.zeros(2, [('a', 'O')]), 4),
    'array with too few bytes': pickle.dumps(np.arange(9.0), 4).replace(b'K\t\x85', b'K\x63\x85'),
    'array with a negative size': pickle.dumps(np.arange(9.0), 4).replace(b'K\t\x85', b'J\xff\xff\xff\xff\x85'),
    'scalar of objects': pickle.dumps(Call(np.core.multiarray.scalar, np.dtype('O'), b'A' * 8), 4),
    'another codec': b"c_codecs\nencode\n(S'ran'\nS'punycode'\ntR.",
    'bytes without end': b'c__builtin__\nbytes\n(L99999999999999L\ntR.',
}


def checkpoint(payload: object, **settings) -> bytes:
    """A checkpoint whose meta data hold `payload`."""
    file = io.BytesIO()
    torch.save({'state_dict': {'weight': torch.ones(2, 2)}, 'meta': payload}, file, **settings)
    return file.getvalue()


def tar_checkpoint() -> bytes:
    """The format of the first versions of torch: an archive with three pickles."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            content = pickle.dumps(runs())
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def raw_checkpoint(content: bytes) -> bytes:
    """A checkpoint whose pickle, in the format of torch's archives, is `content`."""
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('archive/data.pkl', content)
        archive.writestr('archive/version', '3\n')
    return file.getvalue()


def script_checkpoint() -> bytes:
    """A TorchScript program, which is code by nature."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), file)
    return file.getvalue()


CHECKPOINTS: dict[str, bytes] = {
    'zip': checkpoint(runs()),
    'before torch 1.6': checkpoint(runs(), _use_new_zipfile_serialization=False),
    'tar': tar_checkpoint(),
    'plain pickle': pickle.dumps({'state_dict': runs()}),
    'pickle in an archive': raw_checkpoint(_INST),
    'getattr': checkpoint(Call(getattr, torch.nn.Linear, 'forward')),
    'ndarray over a buffer': checkpoint(Call(np.ndarray, (1,), np.dtype('O'), b'A' * 8)),
    'ndarray without a dtype state': raw_checkpoint(
        b'\x80\x02cnumpy\nndarray\nK\x01\x85cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R\x87R.'
    ),
    'class of a dtype': raw_checkpoint(
        b'\x80\x02cnumpy.dtypes\nFloat64DType\n)R(K\x03X\x01\x00\x00\x00>NNNK\x00K\x00K\x00tb.'
    ),
    'TorchScript': script_checkpoint(),
}

YAMLS: dict[str, str] = {
    'apply': "!!python/object/apply:os.mkdir ['ran']",
    'new': "!!python/object/new:os.mkdir ['ran']",
    'apply with a mapping': "!!python/object/apply:os.mkdir {args: ['ran']}",
    'module': '!!python/module:evil_parts',
    'name': '!!python/name:evil_parts.make',
    'verbatim tag': "!<tag:yaml.org,2002:python/object/apply:os.mkdir> ['ran']",
    'tuple of a call': "!!python/tuple [!!python/object/apply:os.mkdir ['ran']]",
    'handle': "!!python/object/apply:builtins.eval [\"__import__('os').mkdir('ran')\"]",
}

# Importing this module leaves the mark; it lies next to the configs of the tests and on the path of imports.
MODULE = 'import os\nos.path.isdir("ran") or os.mkdir("ran")\n\n\ndef make(**settings):\n    pass\n'
