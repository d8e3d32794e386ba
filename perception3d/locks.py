"""One run at a time in a folder."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from perception3d.checks import InputError
from perception3d.files import read_json, write_json

LOCK_FILES = ('.lock', '.lock.json')
"""In a locked folder: the lock, an empty file that stays, and the note of the process that holds it."""


@contextmanager
def folder_lock(folder: str | Path, state: str = 'in use') -> Iterator[None]:
    """Locks a folder for this process, and creates it if it is missing; a second process gets an error.

    The lock is the operating system's: it is released when the process ends, however it ends.

    Args:
        state: of the folder while it is locked, for the error of the second process, such as 'being written'.

    Raises:
        InputError: another process holds it, with its id and command; or the file system has no locks.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock_file, note = (folder / name for name in LOCK_FILES)
    lock = FileLock(lock_file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f'{folder} is {state} by {_holder(note)}: wait until that ends, end it, or choose another folder'
        ) from None
    except NotImplementedError as error:
        raise InputError(f'{folder} cannot be locked ({error}): choose a folder on another disk') from error
    try:
        write_json(note, {
            'pid': os.getpid(), 'host': socket.gethostname(), 'since': time.strftime('%Y-%m-%d %H:%M:%S'),
            'command': Path(sys.argv[0]).name,
        })  # fmt: skip
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def _holder(note: Path) -> str:
    try:
        holder = read_json(note)
        return f'process {holder["pid"]} on {holder["host"]} ({holder["command"]}, since {holder["since"]})'
    except (InputError, OSError, KeyError, TypeError):
        # The other process is writing it now.
        return 'another process'
