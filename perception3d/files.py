"""Reading with errors that name the file, and writing that never leaves half a file behind."""

from __future__ import annotations

import json
import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError, require_file


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on success it is renamed to `path`, on an error it is removed.

    A reader therefore sees the old file or the whole new one. The suffix is kept, since image and video writers
    choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f'.{path.stem[:40]}-', suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; a result should get the permissions that open() would have given it.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: str | Path, hint: str = '') -> Any:
    """Returns the content of a JSON file; InputError names a missing or malformed file."""
    path = require_file(path, hint)
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f'{path} is not valid JSON ({error}): write or download it again') from error


def write_json(path: str | Path, content: Any, indent: int | None = None) -> None:
    """Writes `content` as JSON, whole or not at all."""
    with write_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent) + '\n', encoding='utf-8')


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles containers, numbers, strings and numpy arrays; a class outside that list could run code."""

    allowed = {
        ('numpy', 'ndarray'),
        ('numpy', 'dtype'),
        ('numpy.core.multiarray', '_reconstruct'),
        ('numpy.core.multiarray', 'scalar'),
        ('numpy._core.multiarray', '_reconstruct'),
        ('numpy._core.multiarray', 'scalar'),
        ('numpy.core.numeric', '_frombuffer'),
        ('numpy._core.numeric', '_frombuffer'),
        ('collections', 'OrderedDict'),
        ('_codecs', 'encode'),
    }

    def find_class(self, module: str, name: str) -> Any:
        """Returns the class if it is on the list; InputError otherwise."""
        if (module, name) not in self.allowed:
            raise InputError(f'it holds {module}.{name}, which a plain data file never needs')
        return super().find_class(module, name)


def read_pickle(path: str | Path, hint: str = '') -> Any:
    """Returns the content of a data pickle (containers and numpy arrays); refuses one that could run code."""
    path = require_file(path, hint)
    try:
        with path.open('rb') as file:
            return _PlainUnpickler(file).load()
    except InputError as error:
        raise InputError(f'{path} was refused: {error}') from error
    except Exception as error:
        raise InputError(f'{path} is not a readable pickle ({error}): create it again') from error


def write_pickle(path: str | Path, content: Any) -> None:
    """Writes `content` as a pickle, whole or not at all."""
    with write_whole(path) as temporary, temporary.open('wb') as file:
        pickle.dump(content, file, protocol=4)


def read_image(path: str | Path) -> np.ndarray:
    """Returns an image as (H, W, 3) uint8 in BGR order; InputError names a missing or undecodable file."""
    import cv2

    path = require_file(path, 'check the data root and that the archive was unpacked completely')
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if image is None:
        raise InputError(f'{path} does not decode as an image: it is damaged, copy or download it again')
    return image


def write_image(path: str | Path, image_bgr: np.ndarray) -> None:
    """Writes an (H, W, 3) uint8 BGR image in the format that the suffix names, whole or not at all."""
    import cv2

    with write_whole(path) as temporary:
        if not cv2.imwrite(str(temporary), image_bgr):
            raise InputError(f'{path} could not be written: use the suffix .png or .jpg')


def read_points(path: str | Path, num_features: int) -> np.ndarray:
    """Returns a raw float32 point file as (N, num_features); InputError names a missing or truncated file."""
    path = require_file(path, 'check the data root and that the archive was unpacked completely')
    size, row = path.stat().st_size, 4 * num_features
    if size % row:
        raise InputError(f'{path} is truncated: {size} bytes is no multiple of {row} ({num_features} floats a point)')
    return np.fromfile(path, np.float32).reshape(-1, num_features)
