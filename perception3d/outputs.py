"""Where results go: names from data that stay in their folder, checks before the work, system errors in one line."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import threading
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from perception3d.checks import InputError

_LONGEST_BYTES = 120
"""Limit for a name made from data: leaves room for numbers, suffixes and temporary names within the 255 bytes of file
systems."""
_LONGEST_PART, _LONGEST_PATH = 255, 4000
_RESERVED = {'con', 'prn', 'aux', 'nul', *(f'{port}{k}' for port in ('com', 'lpt') for k in range(1, 10))}
_PROBE_BYTES = 4096

_CAUSES = {
    errno.ENOSPC: ('the disk is full', 'free space there, or choose a folder on another disk'),
    errno.EDQUOT: ('the disk quota is used up', 'free space there, or choose a folder on another disk'),
    errno.EROFS: ('the disk is read-only', 'choose another folder'),
    errno.EACCES: ('permission denied', 'change its permissions, or choose another path'),
    errno.EPERM: ('the system does not permit it', 'change its permissions, or choose another path'),
    errno.ENOTDIR: ('a part of this path is a file, not a folder', 'remove that file, or choose another path'),
    errno.EEXIST: ('a file of this name exists where a folder is needed', 'remove it, or choose another path'),
    errno.EISDIR: ('it is a folder, not a file', 'choose another name'),
    errno.ENAMETOOLONG: ('the name is too long', 'choose a shorter one'),
    errno.ENOENT: ('it does not exist', 'check the path'),
    errno.EFBIG: ('the file would be larger than the system allows', 'choose another disk, or raise ulimit -f'),
    errno.EMFILE: ('too many open files', 'raise the limit with ulimit -n, or use fewer workers'),
    errno.EIO: ('the disk reports an error', 'check the disk'),
    errno.ENOTEMPTY: ('the folder is not empty', 'remove what is in it, or choose another path'),
}


def safe_name(name: Any, default: str = 'unnamed') -> str:
    """Returns `name` as a file name without suffix that every system takes and that stays in its folder.

    Letters, digits and `_ . + -` are kept, so dotted names stay whole; anything else becomes `_`, and so do dots and
    dashes at the start. An empty name gives `default`. A long name is cut to 120 bytes and ends in a hash of the whole.
    """
    text = re.sub(r'[^\w.+-]+', '_', str(name))
    text = re.sub(r'^[.-]+', lambda match: '_' * len(match.group()), text) or default
    if text.partition('.')[0].lower() in _RESERVED:
        text = f'_{text}'
    if len(text.encode()) > _LONGEST_BYTES:
        digest = hashlib.sha1(str(name).encode('utf-8', 'surrogatepass')).hexdigest()[:8]
        text = f'{text.encode()[: _LONGEST_BYTES - 9].decode("utf-8", "ignore")}-{digest}'
    return text


def require_name(name: Any, what: str) -> str:
    """Returns `name` if a file can have it; for files that others find by their exact name.

    Args:
        what: what has this name, for the error, such as 'splits.json: split'.

    Raises:
        InputError: it is empty, too long, holds a slash or a control character, or names a folder above.
    """
    fault = None
    if not isinstance(name, str) or not name.strip():
        fault = 'it is empty' if isinstance(name, str) else 'it is not a text'
    elif name in ('.', '..') or re.search(r'[/\\]', name):
        fault = 'it would lead out of its folder'
    elif re.search(r'[\x00-\x1f\x7f\ud800-\udfff]', name):
        fault = 'it holds a control character'
    elif len(name.encode()) > _LONGEST_BYTES:
        fault = f'it has {len(name.encode())} bytes, more than {_LONGEST_BYTES}'
    if fault:
        raise InputError(f'{what} {str(name)[:80]!r} cannot name a file: {fault}; rename it')
    return name


class OutputNames:
    """Paths in one folder, made of names that come from data: safe (see `safe_name`), and none is given twice.

    Equal names get numbers: `frame`, `frame_2`, `frame_3`. Names that differ only in case count as equal, since some
    file systems treat them as the same name. Several threads may ask one object.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._lock = threading.Lock()
        self._stem_of: dict[Hashable, str] = {}
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def paths(
        self,
        name: Any,
        suffixes: Sequence[str],
        source: Hashable = None,
        keep: Iterable[str | Path] = (),
        default: str = 'unnamed',
    ) -> list[Path]:
        """Returns one path for each of `suffixes`, all with the same stem.

        Args:
            name: the name in the data.
            suffixes: with their dots.
            source: what the name stands for, such as (path of the input, number within it); the same source gets the
                same paths again. None: a new one each time.
            keep: files that must not be overwritten, such as the inputs.
            default: stands for an empty name.
        """
        with self._lock:
            stem = None if source is None else self._stem_of.get(source)
            if stem is None:
                stem = self._free(safe_name(name, default), suffixes, {os.path.realpath(path) for path in keep})
            if source is not None:
                self._stem_of[source] = stem
        return self._join(stem, suffixes)

    def _free(self, base: str, suffixes: Sequence[str], kept: set[str]) -> str:
        number = self._numbers.get(_key(base), 1)
        while True:
            stem = base if number == 1 else f'{base}_{number}'
            number += 1
            paths = self._join(stem, suffixes)
            if _key(stem) not in self._taken and not any(os.path.realpath(path) in kept for path in paths):
                break
        self._numbers[_key(base)] = number
        self._taken.add(_key(stem))
        return stem

    def _join(self, stem: str, suffixes: Sequence[str]) -> list[Path]:
        # with_suffix would cut what follows the last dot of the name.
        return [self.folder / f'{stem}{suffix}' for suffix in suffixes]


def _key(stem: str) -> str:
    return unicodedata.normalize('NFC', stem).casefold()


def check_outputs(
    files: Iterable[str | Path | None] = (),
    folders: Iterable[str | Path | None] = (),
    inputs: Iterable[str | Path | None] = (),
) -> None:
    """Makes sure that outputs can be written, before work is spent on them; None stands for an output not asked for.

    Nothing is created: a small file is written to the closest folder that exists, and removed.

    Args:
        files: files to write.
        folders: folders to write into; those that are missing would be made.
        inputs: files that are read; an output may not be one of them.

    Raises:
        InputError: names the path, what is wrong, and what to do.
    """
    read = {os.path.realpath(path) for path in inputs if path is not None}
    for path in [Path(name) for name in files if name]:
        require_replaceable(path)
        if os.path.realpath(path) in read:
            raise InputError(f'{path} is an input and would be overwritten: give the output another name')
        _check_folder(path.parent, path)
    for path in [Path(name) for name in folders if name]:
        _check_folder(path, path)


def require_replaceable(path: Path) -> None:
    """Raises InputError where `path` exists and is not a file: a folder, a device, a pipe."""
    # os.path, since pathlib raises where a folder may not be read or a name is too long.
    if os.path.exists(path) and not os.path.isfile(path):
        what = 'a folder' if os.path.isdir(path) else 'a device or a pipe'
        raise InputError(f'{path} is {what}, not a file: give the name of a file to write')


def _check_folder(folder: Path, asked: Path) -> None:
    folder = Path(os.path.abspath(folder))
    try:
        if len(os.fsencode(folder)) > _LONGEST_PATH or any(len(os.fsencode(p)) > _LONGEST_PART for p in asked.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(asked))
        while not os.path.lexists(folder):
            folder = folder.parent
        if not os.path.isdir(folder):
            what = 'a file' if os.path.exists(folder) else 'a link to nothing'
            raise InputError(f'{folder} is {what}, but a folder is needed: remove it, or choose another path')
        try_writing(folder)
    except OSError as error:
        # The probe's own name would not help the user.
        error.filename = str(folder)
        raise InputError(f'cannot write {asked}: {system_error(error)}') from error


def try_writing(folder: Path) -> None:
    """Writes a small file to a folder and removes it; OSError with the reason if that fails."""
    probe = folder / f'.probe-{secrets.token_hex(6)}'
    handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        if os.write(handle, bytes(_PROBE_BYTES)) < _PROBE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    finally:
        os.close(handle)
        with suppress(OSError):
            probe.unlink()


def system_error(error: OSError) -> str:
    """Returns one line of what the system refused: the path, what is wrong, what to do."""
    number, path, text = error.errno, error.filename, str(error)
    # torch and mmengine build such errors again from their text.
    match = re.search(r"\[Errno (\d+)\] [^:\n]*(?:: '([^'\n]*)')?\s*$", text) if number is None else None
    if match:
        number, path = int(match.group(1)), match.group(2)
    if number not in _CAUSES:
        plain = (text.strip().splitlines() or [type(error).__name__])[-1]
        return ' '.join(plain.split())
    what, advice = _CAUSES[number]
    return f'{os.fsdecode(path)}: {what}: {advice}' if isinstance(path, (str, bytes)) else f'{what}: {advice}'
