"""Runs cells side by side, in an order that their needs allow, as processes that end with this one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen, TimeoutExpired
from typing import Any

from perception3d.checks import InputError
from perception3d.experiment.commands import ExperimentRun
from perception3d.experiment.plan import Cell
from perception3d.experiment.records import TRAIN, CellFolder, check_metrics, identity
from perception3d.experiment.table import clock
from perception3d.workers import end_child_with_parent

POLL_S = 0.1
_GRACE_S = 10.0


class StopRequest:
    """Keeps Ctrl-C and SIGTERM until `check` is called, at a place where nothing is half done."""

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
    """A command as the leader of a process group of its own; its output is appended to a log file.

    It gets SIGTERM when this process is killed (on Linux; elsewhere it keeps running).

    Raises:
        InputError: there is no such program.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._start = time.monotonic()
        with log.open('ab') as file:
            try:
                # A group of its own: Ctrl-C only reaches this process, and all workers of a cell can be ended with it.
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

    def terminate(self) -> None:
        """Sends SIGTERM to the whole group."""
        self._signal(signal.SIGTERM)

    def kill_after(self, timeout_s: float) -> None:
        """Waits for the end, at most `timeout_s`, then sends SIGKILL to what is left of the group."""
        with suppress(TimeoutExpired):
            self._process.wait(timeout_s)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        # psutil finds the children of a process, but not those whose parent has ended; they are still in the group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def stop(children: Sequence[Child]) -> None:
    """Ends commands that are running: SIGTERM, then SIGKILL after ten seconds."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + _GRACE_S
    for child in children:
        child.kill_after(max(0.0, deadline - time.monotonic()))


def run_to_end(child: Child, request: StopRequest) -> int:
    """Waits for a command and returns its exit code; on a stop, or any other exception, ends the command."""
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


@dataclass(frozen=True)
class Failure:
    """Why a cell is not done, and the last lines of its log, if it has one."""

    reason: str
    log: str = ''


@dataclass
class _Running:
    folder: CellFolder
    stage: str
    child: Child


class CellQueue:
    """Runs cells: training, then test, several side by side, each once all that it needs is done.

    Args:
        digests: of the arms, as `fingerprints` returns them.
        facts: what is added to every record, such as the machine.
        request: a stop that the user may ask for.
        on_done: called after each cell that is done.
    """

    def __init__(
        self,
        run: ExperimentRun,
        digests: Mapping[str, str],
        facts: Mapping[str, Any],
        request: StopRequest,
        on_done: Callable[[], object],
    ) -> None:
        self.experiment_run, self.digests, self.facts = run, digests, facts
        self.request, self.on_done = request, on_done
        self._done: dict[Cell, float] = {}
        self._failures: dict[Cell, Failure] = {}
        self._waiting: list[Cell] = []
        self._running: dict[Cell, _Running] = {}
        self._error: InputError | None = None
        self._start = time.monotonic()

    def run(self, cells: Sequence[Cell]) -> dict[Cell, Failure]:
        """Runs those of `cells` that are not done, which must include all that they need; returns the failures.

        Raises:
            InputError: a test gave no metric of a name that the experiment asks for. Running cells are stopped.
            KeyboardInterrupt: the user stopped it. Running cells are stopped; a later call resumes them.
        """
        for cell in cells:
            record = self.experiment_run.folder(cell).record()
            if record:
                self._done[cell] = record['train_seconds'] + record['test_seconds']
            else:
                self._waiting.append(cell)
        try:
            while self._waiting or self._running:
                self.request.check()
                self._step()
        except BaseException:
            self._stop()
            raise
        return self._failures

    def _step(self) -> None:
        self._block()
        while len(self._running) < self.experiment_run.launch.jobs and (cell := self._next()):
            self._waiting.remove(cell)
            self._attempt(cell, self._begin)
        if self._running:
            time.sleep(POLL_S)
        for cell in list(self._running):
            self._attempt(cell, self._poll)
        if self._error:
            raise self._error

    def _next(self) -> Cell | None:
        return next((cell for cell in self._waiting if all(need in self._done for need in cell.needs)), None)

    def _block(self) -> None:
        """Fails the cells that need one that failed, and those that need them."""
        while blocked := [cell for cell in self._waiting if any(need in self._failures for need in cell.needs)]:
            for cell in blocked:
                need = next(need for need in cell.needs if need in self._failures)
                self._waiting.remove(cell)
                self._fail(cell, Failure(f'blocked: it needs {need.name}, which failed'))

    def _attempt(self, cell: Cell, step: Callable[[Cell], None]) -> None:
        try:
            step(cell)
        except InputError as error:
            self._fail(cell, Failure(str(error)))

    def _begin(self, cell: Cell) -> None:
        folder = self.experiment_run.folder(cell)
        stage = folder.next_stage()
        if stage is None:
            self._finish(cell, folder)
            return
        if stage == TRAIN:
            command = self.experiment_run.train_command(cell)
            what = 'is resumed from its last checkpoint' if folder.can_resume() else 'trains'
        else:
            command = self.experiment_run.test_command(cell)
            what = 'is tested'
            folder.metrics_file.unlink(missing_ok=True)
        launch, digest = self.experiment_run.launch, self.digests[cell.arm]
        folder.begin(stage, command, identity(cell, self.experiment_run.out, digest), launch.repository)
        child = Child(command, folder.log(stage), launch.environment(launch.threads))
        self._running[cell] = _Running(folder, stage, child)
        self._say(f'{cell.name} {what}, log: {folder.log(stage)}')

    def _poll(self, cell: Cell) -> None:
        active = self._running[cell]
        code = active.child.poll()
        if code is None:
            return
        del self._running[cell]
        active.folder.end(active.stage, active.child.seconds, code)
        if code:
            log = active.folder.log(active.stage)
            self._fail(cell, Failure(f'its {active.stage} ended with code {code}: {log}', tail(log)))
        else:
            # The test follows in the place of the training.
            self._begin(cell)

    def _finish(self, cell: Cell, folder: CellFolder) -> None:
        record = folder.finish(self.facts)
        self._done[cell] = record['train_seconds'] + record['test_seconds']
        minutes = f'train {record["train_seconds"] / 60:.1f} min, test {record["test_seconds"] / 60:.1f} min'
        self._say(f'{cell.name} done ({minutes}){self._outlook()}')
        try:
            check_metrics(record, self.experiment_run.experiment.metrics)
        except InputError as error:
            # Not an error of the cell: the experiment file asks for what its tests do not give.
            self._error = error
            return
        self.on_done()

    def _fail(self, cell: Cell, failure: Failure) -> None:
        self._failures[cell] = failure
        self._say(f'{cell.name} FAILED: {failure.reason}{self._outlook()}')

    def _outlook(self) -> str:
        """Returns how many cells are done, and about how long the rest takes by the mean of those that are done."""
        left = len(self._waiting) + len(self._running)
        text = f'; {len(self._done)} done, {len(self._failures)} failed, {left} left'
        if not left or not self._done:
            return text
        mean = sum(self._done.values()) / len(self._done)
        behind = sum(
            min(mean, active.folder.seconds(TRAIN) + active.child.seconds) for active in self._running.values()
        )
        return f'{text}, about {clock((mean * left - behind) / min(self.experiment_run.launch.jobs, left))} to go'

    def _say(self, text: str) -> None:
        print(f'[{clock(time.monotonic() - self._start)}] {text}', flush=True)

    def _stop(self) -> None:
        running = list(self._running.values())
        stop([active.child for active in running])
        for active in running:
            active.folder.end(active.stage, active.child.seconds, None)
