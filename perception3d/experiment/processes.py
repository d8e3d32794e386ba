"""Child processes that end with their whole group and with this run, and a stop at a safe place."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen, TimeoutExpired
from typing import Any

from perception3d.checks import InputError
from perception3d.workers import end_child_with_parent

POLL_S = 0.1
_GRACE_S = 10.0


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

    It gets SIGTERM when this run is killed (on Linux; elsewhere it lives on).

    Raises:
        InputError: there is no such program.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
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
                    preexec_fn=end_child_with_parent,
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
