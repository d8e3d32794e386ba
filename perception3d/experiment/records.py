"""What is known of cells, on disk, so that a later call resumes from there: progress, results, digests, versions."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from perception3d import __version__
from perception3d.apis.config import load_config
from perception3d.apis.environment import PARTS
from perception3d.checks import InputError, unknown_name
from perception3d.experiment.plan import PREPARE, Arm, Cell, Experiment
from perception3d.files import read_json, write_json
from perception3d.training_folder import latest_checkpoint, pointed_checkpoint, training_checkpoints

TRAIN, TEST = 'train', 'test'
PREPARED = f'{PREPARE}.json'
_CELLS = 'cells'
# A sample depends only on the seed and its index, not on the worker that loads it: these may change between calls.
_WITHOUT_EFFECT = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')


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
        """Returns the file with all that a stage prints."""
        return self.path / f'{stage}.log'

    def record(self) -> dict[str, Any] | None:
        """Returns what `finish` wrote; None before."""
        return read_json(self._record_file) if self._record_file.is_file() else None

    def progress(self) -> dict[str, Any] | None:
        """Returns what is known of a cell that has begun, whether done or not; None before."""
        return read_json(self._progress_file) if self._progress_file.is_file() else self.record()

    def next_stage(self) -> str | None:
        """Returns the stage to run next; None when both have ended well."""
        progress = self.progress() or {}
        return next((stage for stage in (TRAIN, TEST) if not progress.get(stage, {}).get('done')), None)

    def checkpoint(self) -> str:
        """Returns the path of the final checkpoint.

        Raises:
            InputError: it does not exist.
        """
        if not self.pointer.is_file():
            fix = f'--redo {self.cell.arm} trains it again'
            raise InputError(f'{self.cell.name} has no checkpoint, {self.pointer} does not exist: {fix}')
        checkpoint = pointed_checkpoint(self.work)
        if checkpoint is None:
            name = self.pointer.read_text().strip()
            raise InputError(
                f'the checkpoint of {self.cell.name}, {self.work / Path(name).name}, does not exist any more: '
                f'--redo {self.cell.arm} trains it again'
            )
        return str(checkpoint)

    def can_resume(self) -> bool:
        """Returns whether the training has written a checkpoint to resume from."""
        return latest_checkpoint(self.work) is not None

    def start_options(self) -> list[str]:
        """Returns the options of train.py that resume the training, or overwrite checkpoints that cannot be resumed."""
        if self.can_resume():
            return ['--resume']
        return ['--overwrite'] if training_checkpoints(self.work) else []

    def begin(self, stage: str, command: Sequence[str], identity: Mapping[str, Any], repository: Path | None) -> None:
        """Records that a part of `stage` begins; `identity` is that of the cell, `repository` the code."""
        progress = self._close_open_part(self.progress() or {})
        state = progress.setdefault(stage, {'done': False, 'parts': []})
        version = code_version(repository)
        state['parts'].append({'command': list(command), **version, 'began': time.time(), 'seconds': None})
        write_json(self._progress_file, {**progress, **identity}, indent=2)

    def end(self, stage: str, seconds: float, code: int | None) -> None:
        """Records that the last part of `stage` has ended; code None: the user stopped it."""
        progress = self.progress() or {}
        progress[stage]['done'] = code == 0
        progress[stage]['parts'][-1].update(seconds=seconds, code=code)
        write_json(self._progress_file, progress, indent=2)

    def seconds(self, stage: str) -> float:
        """Returns the wall time of a stage over all its parts."""
        parts = (self.progress() or {}).get(stage, {}).get('parts', [])
        return sum(part['seconds'] or 0.0 for part in parts)

    def finish(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Writes and returns the record of a cell whose stages have both succeeded.

        Raises:
            InputError: the test wrote no metrics.
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
        """Ends a part whose end was not recorded, as after a power cut, at the time of its last line in the log."""
        for stage in (TRAIN, TEST):
            parts = progress.get(stage, {}).get('parts', [])
            if parts and parts[-1]['seconds'] is None:
                log = self.log(stage)
                last = log.stat().st_mtime if log.is_file() else parts[-1]['began']
                parts[-1].update(seconds=max(0.0, last - parts[-1]['began']), code=None)
        return progress


def read_prepared(out: Path) -> list[dict[str, Any]]:
    """Returns what ran before the cells: words as in the experiment file, command, seconds, commit, paths it made."""
    record = out / PREPARED
    return read_json(record) if record.is_file() else []


def any_begun(out: Path, without: Sequence[Cell] = ()) -> bool:
    """Returns whether a cell of the output folder has begun, except those of `without`."""
    left_out = {CellFolder(out, cell).path for cell in without}
    return any(
        mark.parent not in left_out
        for name in ('cell', 'progress')
        for mark in (out / _CELLS).glob(f'*/seed*/{name}.json')
    )


def identity(cell: Cell, out: Path, digest: str) -> dict[str, Any]:
    """Returns what a cell is made from: the digest of its arm, and when each cell that it needs was finished."""
    stamps = {need.name: (CellFolder(out, need).record() or {}).get('finished') for need in cell.needs}
    return {'digest': digest, 'needs': stamps}


def check_identity(cell: Cell, out: Path, digest: str) -> None:
    """Compares what a cell that is done, or has begun, was made from with what it would be made from now.

    Raises:
        InputError: they differ; says in what, and how to run the cell again.
    """
    folder, now = CellFolder(out, cell), identity(cell, out, digest)
    before = folder.progress()
    if before is None:
        return
    fix = f'run it again with --redo {cell.arm} (or remove {folder.path}), or choose another --out'
    if before['digest'] != now['digest']:
        raise InputError(
            f'{cell.name} was run with another config or options, or another number of processes, than the experiment '
            f'has now: {fix}'
        )
    for name, stamp in now['needs'].items():
        if before['needs'].get(name) != stamp:
            raise InputError(f'{cell.name} was made from an earlier {name}, which has been run again since: {fix}')


def fingerprints(experiment: Experiment, processes: int = 1) -> dict[str, str]:
    """Returns a short digest of what every arm computes, so that results of another config are not taken for its own.

    It is made of the resolved configs for training and test, and of the digests of the arms that it needs. References
    such as '{out}' stay as they are, so that the output folder may be moved. Each process of a cell takes a batch of
    its own: a number of `processes` other than 1 is part of the digest.

    Raises:
        InputError: a config does not load or does not have an option; two arms with a common seed are equal.
    """
    digests: dict[str, str] = {}
    for arm in experiment.arms.values():
        _add(arm, experiment, processes, digests)
    seen: dict[tuple[str, int], str] = {}
    for arm in experiment.arms.values():
        for seed in arm.seeds:
            twin = seen.setdefault((digests[arm.name], seed), arm.name)
            if twin != arm.name:
                raise InputError(
                    f'{experiment.file}: arms {twin!r} and {arm.name!r} are the same: equal configs, options and seeds'
                )
    return digests


def _add(arm: Arm, experiment: Experiment, processes: int, digests: dict[str, str]) -> str:
    if arm.name not in digests:
        needs = [_add(experiment.arms[name], experiment, processes, digests) for name in arm.needs]
        try:
            train = _resolved(arm.config, arm.options)
            test = _resolved(arm.test_config, arm.test_options)
        except InputError as error:
            raise InputError(f'{experiment.file}: arm {arm.name!r}: {error}') from error
        content = {'train': train, 'test': test, 'needs': needs}
        if processes != 1:
            content['processes'] = processes
        text = json.dumps(content, sort_keys=True, default=repr)
        digests[arm.name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return digests[arm.name]


def _resolved(config: Path, options: Mapping[str, Any]) -> Any:
    return _plain(load_config(config, options).to_dict())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if key not in _WITHOUT_EFFECT}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def check_metrics(record: Mapping[str, Any], metrics: Sequence[str]) -> None:
    """Compares the names of metrics with those that the test of a cell gave.

    Raises:
        InputError: one of them is not there; names the nearest.
    """
    for name in metrics:
        if name not in record['metrics']:
            error = unknown_name('metric', name, record['metrics'])
            raise InputError(f'the test of {record["arm"]}/seed{record["seed"]} gave other metrics: {error}')


def code_version(folder: Path | None) -> dict[str, Any]:
    """Returns the git commit of the code in `folder` (None outside git), and whether the files there differ from it.

    An installed package has no folder: a repository around it is somebody else's. Of untracked files only Python files
    count: they may have been run.
    """
    if folder is None:
        return {'commit': None, 'dirty': False}
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
    installed = {'python': platform.python_version(), 'perception3d': __version__}
    for part in PARTS:
        if part.needed:
            try:
                installed[part.distribution] = importlib.metadata.version(part.distribution)
            except importlib.metadata.PackageNotFoundError:
                installed[part.distribution] = 'missing'
    return installed
