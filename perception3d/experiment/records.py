"""What a cell has behind it, kept in its folder so that any later call can continue from there."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import perception3d
from perception3d.apis.environment import PARTS
from perception3d.checkpoints import latest_checkpoint, pointed_checkpoint, training_checkpoints
from perception3d.checks import InputError, unknown_name
from perception3d.experiment.plan import Cell
from perception3d.files import read_json, write_json

TRAIN, TEST = 'train', 'test'
_CELLS = 'cells'


class CellFolder:
    """The folder OUT/cells/<arm>/seed<k>: `work` (checkpoints), logs, `progress.json` until done, then `cell.json`.

    `progress.json` holds the digest of the cell, the stamps of the cells that it needs, and for each stage the parts
    in which it was run: command, commit, when it began (Unix seconds), seconds, exit code.
    """

    def __init__(self, out: Path, cell: Cell) -> None:
        self.cell = cell
        self.path = out / _CELLS / cell.arm / f'seed{cell.seed}'
        self.work = self.path / 'work'
        self.pointer = self.work / 'last_checkpoint'
        self.metrics_file = self.path / 'metrics.json'
        self._record_file, self._progress_file = self.path / 'cell.json', self.path / 'progress.json'

    def log(self, stage: str) -> Path:
        """The file with all that a stage prints."""
        return self.path / f'{stage}.log'

    def record(self) -> dict[str, Any] | None:
        """Returns what `finish` wrote, None before."""
        return read_json(self._record_file) if self._record_file.is_file() else None

    def progress(self) -> dict[str, Any] | None:
        """Returns what is known of a cell that has begun, done or not."""
        return read_json(self._progress_file) if self._progress_file.is_file() else self.record()

    def next_stage(self) -> str | None:
        """Returns the stage to run next; None when both have ended well."""
        progress = self.progress() or {}
        return next((stage for stage in (TRAIN, TEST) if not progress.get(stage, {}).get('done')), None)

    def checkpoint(self) -> str:
        """Returns the path of the final checkpoint.

        Raises:
            InputError: it is not there.
        """
        if not self.pointer.is_file():
            fix = f'--redo {self.cell.arm} trains it again'
            raise InputError(f'{self.cell.name} left no checkpoint, {self.pointer} does not exist: {fix}')
        checkpoint = pointed_checkpoint(self.work)
        if checkpoint is None:
            name = self.pointer.read_text().strip()
            raise InputError(
                f'the checkpoint of {self.cell.name}, {self.work / Path(name).name}, is gone: --redo {self.cell.arm}'
            )
        return str(checkpoint)

    def can_resume(self) -> bool:
        """Says whether the training has left a checkpoint to resume from."""
        return latest_checkpoint(self.work) is not None

    def start_options(self) -> list[str]:
        """Returns the options of train.py that continue the training, or begin it over what cannot be resumed."""
        if self.can_resume():
            return ['--resume']
        return ['--overwrite'] if training_checkpoints(self.work) else []

    def begin(self, stage: str, command: Sequence[str], identity: Mapping[str, Any], tools: Path) -> None:
        """Notes that a part of `stage` begins; `identity` is that of the cell."""
        progress = self._close_open_part(self.progress() or {})
        state = progress.setdefault(stage, {'done': False, 'parts': []})
        state['parts'].append({'command': list(command), **code_version(tools), 'began': time.time(), 'seconds': None})
        write_json(self._progress_file, {**progress, **identity}, indent=2)

    def end(self, stage: str, seconds: float, code: int | None) -> None:
        """Notes that the part of `stage` which was begun last has ended; code None: it was stopped by the user."""
        progress = self.progress() or {}
        progress[stage]['done'] = code == 0
        progress[stage]['parts'][-1].update(seconds=seconds, code=code)
        write_json(self._progress_file, progress, indent=2)

    def seconds(self, stage: str) -> float:
        """Returns the wall time of a stage over all its parts."""
        parts = (self.progress() or {}).get(stage, {}).get('parts', [])
        return sum(part['seconds'] or 0.0 for part in parts)

    def finish(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Writes and returns the record of a cell whose stages have both ended well.

        Raises:
            InputError: the test left no metrics.
        """
        metrics = read_json(self.metrics_file, f'the test of {self.cell.name} ended without writing it')
        record = {
            'arm': self.cell.arm,
            'seed': self.cell.seed,
            'metrics': metrics,
            'checkpoint': self.checkpoint(),
            'finished': datetime.now().astimezone().isoformat(),
            'train_seconds': self.seconds(TRAIN),
            'test_seconds': self.seconds(TEST),
            **facts,
            **(self.progress() or {}),
        }
        write_json(self._record_file, record, indent=2)
        self._progress_file.unlink()
        return record

    def _close_open_part(self, progress: dict[str, Any]) -> dict[str, Any]:
        """Ends a part whose end nobody saw, as when the machine went down, at its last line in the log."""
        for stage in (TRAIN, TEST):
            parts = progress.get(stage, {}).get('parts', [])
            if parts and parts[-1]['seconds'] is None:
                log = self.log(stage)
                last = log.stat().st_mtime if log.is_file() else parts[-1]['began']
                parts[-1].update(seconds=max(0.0, last - parts[-1]['began']), code=None)
        return progress


def any_begun(out: Path, without: Sequence[Cell] = ()) -> bool:
    """Says whether a cell of the output folder has begun, those of `without` aside."""
    aside = {CellFolder(out, cell).path for cell in without}
    return any(
        mark.parent not in aside
        for name in ('cell', 'progress')
        for mark in (out / _CELLS).glob(f'*/seed*/{name}.json')
    )


def identity(cell: Cell, out: Path, digest: str) -> dict[str, Any]:
    """Returns what a cell is made of: the digest of its arm, and when each cell that it needs was finished."""
    stamps = {need.name: (CellFolder(out, need).record() or {}).get('finished') for need in cell.needs}
    return {'digest': digest, 'needs': stamps}


def check_identity(cell: Cell, out: Path, digest: str) -> None:
    """Refuses a cell that was done, or begun, with another config or from another cell than now.

    Raises:
        InputError: it says what differs and how to do the cell again.
    """
    folder, now = CellFolder(out, cell), identity(cell, out, digest)
    before = folder.progress()
    if before is None:
        return
    fix = f'do it again with --redo {cell.arm} (or remove {folder.path}), or choose another --out'
    if before['digest'] != now['digest']:
        raise InputError(
            f'{cell.name} was run with another config or options, or another number of processes, than the experiment '
            f'has now: {fix}'
        )
    for name, stamp in now['needs'].items():
        if before['needs'].get(name) != stamp:
            raise InputError(f'{cell.name} was made from a {name} that is no longer there: {fix}')


def check_metrics(record: Mapping[str, Any], metrics: Sequence[str]) -> None:
    """Refuses names of metrics that the test of a cell did not give.

    Raises:
        InputError: it names the nearest ones.
    """
    for name in metrics:
        if name not in record['metrics']:
            error = unknown_name('metric', name, record['metrics'])
            raise InputError(f'the test of {record["arm"]}/seed{record["seed"]} gave other metrics: {error}')


def code_version(folder: Path) -> dict[str, Any]:
    """Returns the git commit of the code in `folder` (None outside git), and whether the files there differ from it.

    Of files that git does not know, only Python files count: those may be what was run.
    """
    changes = (_git(folder, 'status', '--porcelain', '--untracked-files=all') or '').splitlines()
    dirty = any(not line.startswith('??') or line.endswith('.py') for line in changes)
    return {'commit': _git(folder, 'rev-parse', 'HEAD'), 'dirty': dirty}


def _git(folder: Path, *words: str) -> str | None:
    try:
        result = subprocess.run(['git', '-C', str(folder), *words], capture_output=True, text=True)
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def versions() -> dict[str, str]:
    """Returns the versions of this package and of those that it needs."""
    found = {'python': platform.python_version(), 'perception3d': perception3d.__version__}
    for part in PARTS:
        if part.needed:
            try:
                found[part.distribution] = importlib.metadata.version(part.distribution)
            except importlib.metadata.PackageNotFoundError:
                found[part.distribution] = 'missing'
    return found
