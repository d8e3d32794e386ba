"""Running cells side by side, in an order that their needs allow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perception3d.checks import InputError
from perception3d.experiment.commands import Launch, test_command, train_command
from perception3d.experiment.plan import Cell, Experiment
from perception3d.experiment.processes import POLL_S, Child, StopRequest, stop, tail
from perception3d.experiment.records import TRAIN, CellFolder, check_metrics, identity


@dataclass(frozen=True)
class Failure:
    """Why a cell was not done, and the last lines of its log, if it got so far."""

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
        facts: what every record says beside its own, such as the machine.
        request: a stop that the user may ask for.
        on_done: called after each cell that was done.
    """

    def __init__(
        self,
        experiment: Experiment,
        out: Path,
        launch: Launch,
        digests: Mapping[str, str],
        facts: Mapping[str, Any],
        request: StopRequest,
        on_done: Callable[[], None],
    ) -> None:
        self.experiment, self.out, self.launch, self.digests = experiment, out, launch, digests
        self.facts, self.request, self.on_done = facts, request, on_done
        self._done: dict[Cell, float] = {}
        self._failures: dict[Cell, Failure] = {}
        self._waiting: list[Cell] = []
        self._running: dict[Cell, _Running] = {}
        self._mistake: InputError | None = None
        self._start = time.monotonic()

    def run(self, cells: Sequence[Cell]) -> dict[Cell, Failure]:
        """Runs what is not done of `cells`, which hold all that they need; returns the failures.

        Raises:
            InputError: a test gave no metric of a name that the experiment asks for. Running cells are stopped.
            KeyboardInterrupt: the user stopped it; so are the cells, and a later call continues them.
        """
        for cell in cells:
            record = CellFolder(self.out, cell).record()
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
        while len(self._running) < self.launch.jobs and (cell := self._next()):
            self._waiting.remove(cell)
            self._attempt(cell, self._begin)
        if self._running:
            time.sleep(POLL_S)
        for cell in list(self._running):
            self._attempt(cell, self._look_after)
        if self._mistake:
            raise self._mistake

    def _next(self) -> Cell | None:
        return next((cell for cell in self._waiting if all(need in self._done for need in cell.needs)), None)

    def _block(self) -> None:
        """Gives up the cells that need one which failed, and those that need them."""
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
        folder = CellFolder(self.out, cell)
        stage = folder.next_stage()
        if stage is None:
            self._finish(cell, folder)
            return
        build = train_command if stage == TRAIN else test_command
        command = build(self.experiment, cell, self.out, self.launch)
        if stage == TRAIN:
            what = 'is resumed from its last checkpoint' if folder.can_resume() else 'trains'
        else:
            what = 'is tested'
            folder.metrics_file.unlink(missing_ok=True)
        folder.begin(stage, command, identity(cell, self.out, self.digests[cell.arm]), self.launch.tools)
        child = Child(command, folder.log(stage), self.launch.environment(self.launch.threads))
        self._running[cell] = _Running(folder, stage, child)
        self._say(f'{cell.name} {what}, log: {folder.log(stage)}')

    def _look_after(self, cell: Cell) -> None:
        now = self._running[cell]
        code = now.child.poll()
        if code is None:
            return
        del self._running[cell]
        now.folder.end(now.stage, now.child.seconds, code)
        if code:
            log = now.folder.log(now.stage)
            self._fail(cell, Failure(f'its {now.stage} ended with code {code}: {log}', tail(log)))
        else:
            # The test follows in the slot of the training.
            self._begin(cell)

    def _finish(self, cell: Cell, folder: CellFolder) -> None:
        record = folder.finish(self.facts)
        self._done[cell] = record['train_seconds'] + record['test_seconds']
        minutes = f'train {record["train_seconds"] / 60:.1f} min, test {record["test_seconds"] / 60:.1f} min'
        self._say(f'{cell.name} done ({minutes}){self._outlook()}')
        try:
            check_metrics(record, self.experiment.metrics)
        except InputError as error:
            # No cell's fault: the experiment file asks for what its tests do not give.
            self._mistake = error
            return
        self.on_done()

    def _fail(self, cell: Cell, failure: Failure) -> None:
        self._failures[cell] = failure
        self._say(f'{cell.name} FAILED: {failure.reason}{self._outlook()}')

    def _outlook(self) -> str:
        """Says how many cells are done and about how long the rest takes, by the mean of those that are done."""
        left = len(self._waiting) + len(self._running)
        text = f'; {len(self._done)} done, {len(self._failures)} failed, {left} left'
        if not left or not self._done:
            return text
        mean = sum(self._done.values()) / len(self._done)
        behind = sum(min(mean, now.folder.seconds(TRAIN) + now.child.seconds) for now in self._running.values())
        return f'{text}, about {clock((mean * left - behind) / min(self.launch.jobs, left))} to go'

    def _say(self, text: str) -> None:
        print(f'[{clock(time.monotonic() - self._start)}] {text}', flush=True)

    def _stop(self) -> None:
        running = list(self._running.values())
        stop([now.child for now in running])
        for now in running:
            now.folder.end(now.stage, now.child.seconds, None)


def clock(seconds: float) -> str:
    """Returns a time as h:mm:ss."""
    whole = round(max(0.0, seconds))
    return f'{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}'
