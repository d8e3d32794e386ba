"""Reading with errors that name the file, and writing that never leaves half a file behind."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError, require_file
from perception3d.outputs import require_replaceable, try_writing
from perception3d.pickles import load_plain_pickle

_LONGEST_SUFFIX = 20
# Editors of Windows may put a byte-order mark first.
_TEXT = 'utf-8-sig'


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path next to `path`; on success it is renamed to `path`, on an error it is removed.

    A reader therefore sees the old file or the whole new one. The suffix is kept, since image and video writers
    choose their format by it.

    Raises:
        InputError: `path` exists and is not a file.
        OSError: the system refused; it names `path`. A full disk is reported as such, whatever error a library raises.
    """
    path = Path(path)
    temporary = path
    require_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _new_file(path)
    except OSError as error:
        _name_file(error, path, temporary)
        raise
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        _name_file(error, path, temporary)
        raise
    except InputError:
        raise
    except Exception as error:
        raise_if_full(path, error)
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def write_durably(path: str | Path) -> Iterator[Path]:
    """As `write_whole`, and the content is on the disk before the file gets its name.

    So the old file may be removed afterwards: neither a kill nor a power failure loses both.
    """
    path = Path(path)
    with write_whole(path) as temporary:
        yield temporary
        with temporary.open('rb') as file:
            os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        # Some network and FUSE file systems cannot do this for a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(folder)


def _new_file(path: Path) -> Path:
    """Creates an empty file next to `path`, with the permissions that a new file gets here."""
    stem = path.stem.encode('utf-8', 'surrogateescape')[:40].decode('utf-8', 'ignore')
    suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ''
    temporary = path.with_name(f'.{stem}-{secrets.token_hex(6)}{suffix}')
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def _name_file(error: OSError, path: Path, temporary: Path) -> None:
    """Puts `path` into an error of writing it; one about another file stays as it is."""
    if error.errno is None:
        # numpy reports what a full disk did not take without a number.
        raise_if_full(path, error)
    elif error.filename in (None, str(temporary)):
        del error.filename2
        error.filename = str(path)


def raise_if_full(path: Path, error: Exception | None = None) -> None:
    """Raises the system's OSError about `path` if nothing more can be written to its folder.

    For libraries that do not report why, or whether, they failed to write. `error` is theirs.
    """
    try:
        try_writing(path.parent)
    except OSError as cause:
        cause.filename = str(path)
        raise cause from error


def file_names(folder: str | Path) -> set[str]:
    """Returns the names of the files in a folder, links to files too; none if there is no such folder.

    Left out are folders, pipes and links that lead nowhere: reading these would wait for ever, or fail.
    """
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def read_text(path: str | Path, hint: str = '') -> str:
    """Returns the text of a UTF-8 file without a byte-order mark; bytes that are no UTF-8 become U+FFFD.

    InputError where `path` is not a file.
    """
    return require_file(path, hint).read_text(encoding=_TEXT, errors='replace')


def read_lines(path: str | Path, hint: str = '') -> list[str]:
    r"""Returns the lines of a text file as `read_text` reads it, without their ends; the last one may be empty.

    Lines end with \n, \r\n or \r. `str.splitlines` would also cut at form feeds and at separators of ASCII and
    Unicode, and so would number the lines as no editor does.
    """
    return read_text(path, hint).split('\n')


def read_json(path: str | Path, hint: str = '') -> Any:
    """Returns the content of a JSON file; InputError names a missing or malformed file."""
    path = require_file(path, hint)
    try:
        return json.loads(path.read_text(encoding=_TEXT))
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path} is not valid JSON ({error}): write or download it again') from error


def read_json_lines(path: str | Path, hint: str = '') -> list[tuple[str, Any]]:
    """Returns (file and line, content) of each line of a file of JSON lines that is not blank.

    Raises:
        InputError: the file is missing or has no lines, or a line is not JSON; names the line.
    """
    path = require_file(path, hint)
    found = []
    for number, text in enumerate(read_lines(path), start=1):
        if text.strip():
            place = f'{path}, line {number}'
            try:
                found.append((place, json.loads(text)))
            except (ValueError, RecursionError) as error:
                raise InputError(f'{place} is not JSON ({error}): expected one entry a line') from error
    if not found:
        raise InputError(f'{path} has no lines: write or copy it again')
    return found


def write_json(path: str | Path, content: Any, indent: int | None = None) -> None:
    """Writes `content` as JSON, whole or not at all; with `indent` a list of numbers still takes one line."""
    text = json.dumps(content, indent=indent)
    if indent is not None:
        # Inside a string a line break is written as \\n, so that only lists are matched.
        text = re.sub(r'\[\n[^\[\]{}"]*\]', lambda found: f'[{" ".join(found[0][1:-1].split())}]', text)
    with write_whole(path) as temporary:
        temporary.write_text(text + '\n', encoding='utf-8')


def parse_yaml(text: str) -> Any:
    """Returns the content of a YAML text: containers, numbers, texts; a tag that would make an object is refused.

    Raises:
        InputError: such a tag, or invalid YAML; names the line.
    """
    import yaml

    try:
        return yaml.load(text, getattr(yaml, 'CSafeLoader', yaml.SafeLoader))
    except yaml.constructor.ConstructorError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else '?'
        raise InputError(f'line {line}: {error.problem}: YAML is read as plain data') from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f'it is not valid YAML ({error}): write it again') from error


def read_yaml(path: str | Path, hint: str = '') -> Any:
    """Returns the content of a YAML file of plain data; InputError names a missing, malformed or refused file."""
    path = require_file(path, hint)
    try:
        return parse_yaml(path.read_text(encoding='utf-8'))
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f'{path} was refused: {error}') from error


def read_pickle(path: str | Path, hint: str = '') -> Any:
    """Returns the content of a data pickle: containers, numbers, texts, numpy arrays of them.

    Raises:
        InputError: the file is missing or damaged, or it could run code; see `perception3d.pickles`.
    """
    path = require_file(path, hint)
    try:
        with path.open('rb') as file:
            return load_plain_pickle(file)
    except InputError as error:
        raise InputError(f'{path} was refused: {error}') from error
    except pickle.UnpicklingError as error:
        raise InputError(f'{path} {error}') from error


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


def write_image(path: str | Path, image_bgr: np.ndarray, jpeg_quality: int | None = None) -> None:
    """Writes an (H, W, 3) uint8 BGR image in the format that the suffix names, whole or not at all.

    `jpeg_quality` is 0 to 100, OpenCV's 95 by default.

    Raises:
        InputError: the suffix names no format, or the format does not take such an image.
        OSError: the system refused to write; it names the file.
    """
    import cv2

    suffix = Path(path).suffix
    if not suffix or not cv2.haveImageWriter(f'x{suffix}'):
        raise InputError(f'{path} could not be written: use the suffix .png or .jpg')
    options = [] if jpeg_quality is None else [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    # Encoded in memory, since OpenCV reports success, or an error without the reason, where a disk is full.
    encoded, data = cv2.imencode(suffix, image_bgr, options)
    if not encoded:
        raise InputError(f'{path}: {suffix[1:]} does not take an image of shape {image_bgr.shape}: use .png')
    write_bytes(path, data)


def write_bytes(path: str | Path, content: bytes | np.ndarray) -> None:
    """Writes `content`, of an array its elements in C order, whole or not at all.

    Unlike `numpy.ndarray.tofile`, which does not report when the last bytes could not be written.
    """
    with write_whole(path) as temporary, temporary.open('wb') as file:
        file.write(np.ascontiguousarray(content).data if isinstance(content, np.ndarray) else content)


def read_array(path: str | Path, hint: str = '') -> np.ndarray:
    """Returns the array of numbers in a .npy file; InputError names a missing or damaged file, or one of objects."""
    path = require_file(path, hint)
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError, SyntaxError) as error:
        raise InputError(f'{path} is not a readable .npy file ({error}): write or copy it again') from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in 'biuf':
        raise InputError(f'{path} is not an array of numbers: write it with numpy.save')
    return array


def read_points(path: str | Path, num_features: int, hint: str = '') -> np.ndarray:
    """Returns a raw float32 point file as (N, num_features); InputError names a missing or truncated file.

    `hint` is what to do about a file whose size does not fit `num_features`.
    """
    path = require_file(path, 'check the data root and that the archive was unpacked completely')
    size, row = path.stat().st_size, 4 * num_features
    if size % row:
        raise InputError(
            f'{path} is truncated: {size} bytes is not a multiple of {row} ({num_features} floats a point)'
            + (f'; {hint}' if hint else '')
        )
    return np.fromfile(path, np.float32).reshape(-1, num_features)


def holds_frames(infos: Any, *keys: str) -> bool:
    """Tells whether the `data_list` of an info file is a list of dicts, each with `keys`."""
    return isinstance(infos, list) and all(isinstance(info, dict) and info.keys() >= set(keys) for info in infos)
