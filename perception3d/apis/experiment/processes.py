"""Child processes that end with their whole group, the lock of an output folder, and a stop at a safe place."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen, TimeoutExpired
from typing import Any

from perception3d.checks import InputError

POLL_S = 0.1
_GRACE_S = 10.0


@contextmanager
def lock(out: Path) -> Iterator[int]:
    """Holds the output folder for this run; gives the descriptor, which children keep open.

    The system frees the lock with its last holder: a crash leaves none, but cells that outlive their run still hold it.

    Raises:
        InputError: another run, or a cell of one, holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / '.lock').open('a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise InputError(
                f'{out} is in use by another run ({file.read().strip()}): wait for it or end it; where that has '
                'crashed, cells that it started may still be running'
            ) from error
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        yield file.fileno()


class StopRequest:
    """Ctrl-C and SIGTERM, noted when they come and obeyed by `check`, where nothing is half done."""

    def __init__(self) -> None:
        self._requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            # A shell that starts a job in the background lets it ignore Ctrl-C.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, *_: object) -> None:
        self._requested = True

    def check(self) -> None:
        """Raises KeyboardInterrupt if a stop was asked for."""
        if self._requested:
            raise KeyboardInterrupt


class Child:
    """A command as the leader of a process group of its own, whose output goes to the end of a log file.

    Args:
        held: descriptor of the lock, which the command keeps open.

    Raises:
        InputError: there is no such program.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], held: int) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._start = time.monotonic()
        with log.open('ab') as file:
            try:
                # A group of its own: Ctrl-C reaches this run alone, and the end of a cell takes its workers along.
                self._process = Popen(
                    list(command),
                    stdin=DEVNULL,
                    stdout=file,
                    stderr=STDOUT,
                    env=dict(environment),
                    start_new_session=True,
                    pass_fds=(held,),
                )
            except OSError as error:
                raise InputError(f'{command[0]} cannot be started: {error}') from error

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self._start

    def poll(self) -> int | None:
        """Returns the exit code once the command has ended."""
        code = self._process.poll()
        if code is not None:
            self._signal(signal.SIGKILL)
        return code

    def ask_to_end(self) -> None:
        """Sends SIGTERM to the whole group."""
        self._signal(signal.SIGTERM)

    def reap(self, timeout_s: float) -> None:
        """Waits for the end, at most `timeout_s`, then ends what is left of the group."""
        with suppress(TimeoutExpired):
            self._process.wait(timeout_s)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def stop(children: Sequence[Child]) -> None:
    """Ends commands that are running: politely, then for good."""
    for child in children:
        child.ask_to_end()
    deadline = time.monotonic() + _GRACE_S
    for child in children:
        child.reap(max(0.0, deadline - time.monotonic()))


def run_to_end(child: Child, request: StopRequest) -> int:
    """Waits for a command and returns its exit code; a stop, or any other exception, ends it."""
    try:
        while (code := child.poll()) is None:
            request.check()
            time.sleep(POLL_S)
    except BaseException:
        stop([child])
        raise
    return code


def tail(log: Path, lines: int = 15) -> str:
    """Returns the last lines of a log."""
    if not log.is_file():
        return ''
    with log.open('rb') as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        return '\n'.join(file.read().decode('utf-8', 'replace').splitlines()[-lines:])
