"""The command experiment: read the plan, run the commands before the cells, run the cells, write the table."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from perception3d.benchmark.report import machine
from perception3d.checks import InputError, unknown_name
from perception3d.experiment.cells import CellQueue, Child, Failure, StopRequest, run_to_end, tail
from perception3d.experiment.commands import ExperimentRun, Launch, shell_line
from perception3d.experiment.plan import OUT, Cell, Experiment, read_experiment, with_needs
from perception3d.experiment.records import (
    PREPARED,
    CellFolder,
    any_begun,
    check_identity,
    check_metrics,
    code_version,
    fingerprints,
    read_prepared,
    versions,
)
from perception3d.experiment.table import write_table
from perception3d.files import write_json
from perception3d.locks import folder_lock
from perception3d.outputs import check_outputs

_PATH = re.compile(rf'\{{{OUT}\}}/([^\s\'";|&<>()]+)')


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Args:
        out: output folder; by default work_dirs/<name of the experiment>.
        only, seeds: run these arms, these seeds, and what they need; None for all.
        redo: arms whose cells run again, with those that were made from them.
        dry_run: only print the commands.
        table_only: only write the table of what is done.
    """

    file: Path
    launch: Launch
    out: Path | None = None
    only: Sequence[str] | None = None
    seeds: Sequence[int] | None = None
    redo: Sequence[str] = ()
    dry_run: bool = False
    table_only: bool = False


def run_experiment(request: Request) -> int:
    """Runs the cells of an experiment that are not done, and writes its table after every cell.

    Returns:
        0 when everything that was asked for is done, 1 when cells failed.

    Raises:
        InputError: a mistake in the experiment file or the request; cells of another config; a folder in use.
        KeyboardInterrupt: stopped by the user; the same call resumes.
    """
    experiment = read_experiment(request.file)
    out = (request.out or Path('work_dirs') / experiment.name).resolve()
    run = ExperimentRun(experiment, out, request.launch)
    chosen = _chosen(experiment, request)
    redone = _redone(experiment, request, chosen, out)
    digests = fingerprints(experiment, request.launch.processes)
    # All commands are built before any of them runs, so that a mistake in the last one is found first.
    plan = _commands(run, chosen, redone)
    if request.dry_run:
        print(plan)
        return 0
    if request.table_only:
        _check_cells(experiment, out, digests)
        print(f'table: {write_table(run)}')
        return 0
    check_outputs(folders=[out])
    with folder_lock(out), StopRequest() as stop_request:
        _check_cells(experiment, out, digests, redone)
        prepare(run, stop_request, redone)
        # Last, so that nothing is removed that does not run again.
        _remove(redone, out)
        queue = CellQueue(run, digests, _facts(request.launch), stop_request, on_done=lambda: write_table(run))
        return _report(run, chosen, queue.run(chosen))


def _chosen(experiment: Experiment, request: Request) -> list[Cell]:
    cells = experiment.cells()
    for arm in [*(request.only or ()), *request.redo]:
        if arm not in experiment.arms:
            raise unknown_name('arm', arm, experiment.arms)
    for seed in request.seeds or ():
        if seed not in {cell.seed for cell in cells}:
            raise unknown_name('seed', str(seed), {str(cell.seed) for cell in cells})
    arms = None if request.only is None else {*request.only, *request.redo}
    asked = [cell for cell in cells if arms is None or cell.arm in arms]
    asked = [cell for cell in asked if request.seeds is None or cell.seed in request.seeds]
    if not asked:
        raise InputError('no cell has both an arm of --only and a seed of --seeds')
    return with_needs(asked, cells)


def _redone(experiment: Experiment, request: Request, chosen: Sequence[Cell], out: Path) -> list[Cell]:
    """Returns the cells to run again: those of --redo, and those that were made from them.

    Raises:
        InputError: some of the latter are not `chosen`; their results would be lost.
    """
    seeds, arms = request.seeds, ' '.join(request.redo)
    redone: list[Cell] = []
    if request.redo and seeds and not any(set(seeds) & set(experiment.arms[arm].seeds) for arm in request.redo):
        raise InputError(f'--redo {arms}: these arms have no seed of --seeds')
    for cell in _by_need(experiment.cells()):
        asked = cell.arm in request.redo and (seeds is None or cell.seed in seeds)
        if asked or any(need in redone for need in cell.needs):
            redone.append(cell)
    left = [cell.name for cell in redone if cell not in chosen and CellFolder(out, cell).progress()]
    if left:
        raise InputError(
            f'--redo {arms}: {", ".join(left)} were made from cells that run again, but --only or --seeds leave them '
            'out: add them there'
        )
    return redone


def _by_need(cells: Sequence[Cell]) -> list[Cell]:
    """Returns cells with each after all that it needs."""
    ordered: list[Cell] = []
    for cell in cells:
        ordered += [other for other in [*_by_need(cell.needs), cell] if other not in ordered]
    return ordered


def _remove(cells: Sequence[Cell], out: Path) -> None:
    for cell in cells:
        folder = CellFolder(out, cell)
        if folder.path.is_dir():
            print(f'{cell.name} runs again')
            shutil.rmtree(folder.path)


def _commands(run: ExperimentRun, cells: Sequence[Cell], redone: Sequence[Cell]) -> str:
    lines = []
    for words in run.experiment.prepare:
        lines += ['# before the cells', shell_line(run.prepare_command(words))]
    for cell in cells:
        needs = f', needs {", ".join(need.name for need in cell.needs)}' if cell.needs else ''
        state = ', runs again' if cell in redone else ', done'
        lines.append(f'# {cell.name}{state if run.folder(cell).record() else ""}{needs}')
        lines += [shell_line(command(cell, dry=True)) for command in (run.train_command, run.test_command)]
    return '\n'.join(lines)


def _check_cells(experiment: Experiment, out: Path, digests: Mapping[str, str], without: Sequence[Cell] = ()) -> None:
    for cell in experiment.cells():
        if cell in without:
            continue
        check_identity(cell, out, digests[cell.arm])
        record = CellFolder(out, cell).record()
        if record:
            check_metrics(record, experiment.metrics)


def _facts(launch: Launch) -> dict[str, Any]:
    facts = machine(torch.device('cuda' if torch.cuda.is_available() else 'cpu'))
    share = {} if launch.threads is None else {'threads': int(launch.environment(launch.threads)['OMP_NUM_THREADS'])}
    processes = {'processes of a cell': launch.processes} if launch.processes > 1 else {}
    return {'machine': {**facts, **share, **processes, 'cells side by side': launch.jobs}, 'versions': versions()}


def prepare(run: ExperimentRun, request: StopRequest, redone: Sequence[Cell] = ()) -> None:
    """Runs the commands of `prepare` that have not run yet, one after another.

    A command that has changed runs again with all after it, and so does one whose output is missing: a path '{out}/...'
    that it names and that it made.

    Args:
        redone: cells that will run again, and so need not have used the old output.

    Raises:
        InputError: a command failed; or one has changed although cells have used its output.
    """
    out, commands = run.out, run.experiment.prepare
    done = read_prepared(out)
    kept = next((number for number, words in enumerate(commands) if not _is_of(words, done, number)), len(commands))
    if kept < len(commands) and any_begun(out, redone):
        raise InputError(
            f'prepare has changed ({shlex.join(commands[kept])}), but cells in {out} have used the output of '
            'the old commands: choose another --out'
        )
    first = next((number for number, entry in enumerate(done[:kept]) if _is_undone(entry, out)), kept)
    if first == len(commands):
        return
    # Without a time they are not done: after an interruption the next call runs them.
    done[first:] = [{**entry, 'seconds': None} for entry in done[first:kept]]
    for number, words in enumerate(commands[first:], first):
        write_json(out / PREPARED, done, indent=2)
        done[number : number + 1] = [_run_command(run, words, request)]
    write_json(out / PREPARED, done, indent=2)


def _run_command(run: ExperimentRun, words: Sequence[str], request: StopRequest) -> dict[str, Any]:
    command, log = run.prepare_command(words), run.out / 'prepare.log'
    print(f'prepare: {shlex.join(command)}, log: {log}', flush=True)
    start, version = time.monotonic(), code_version(run.launch.repository)
    alone = Launch(run.launch.tools)
    code = run_to_end(Child(command, log, alone.environment(alone.threads)), request)
    if code:
        raise InputError(f'prepare: {shlex.join(command)} ended with code {code}: {log} ends with {tail(log, 3)}')
    seconds, made = time.monotonic() - start, [name for name in _named(words) if (run.out / name).exists()]
    return {'words': list(words), 'command': command, 'seconds': seconds, 'left': made, **version}


def _is_of(words: Sequence[str], done: Sequence[Mapping[str, Any]], number: int) -> bool:
    return number < len(done) and done[number]['words'] == list(words)


def _is_undone(entry: Mapping[str, Any], out: Path) -> bool:
    # Records of earlier versions do not have what a command made: then it is what the command names.
    missing = [name for name in entry.get('left', _named(entry['words'])) if not (out / name).exists()]
    if missing and entry['seconds'] is not None:
        print(f'prepare: {", ".join(missing)} does not exist in {out} any more and is made again', flush=True)
    return entry['seconds'] is None or bool(missing)


def _named(words: Sequence[str]) -> list[str]:
    """Returns the paths in the output folder that the words of a command name."""
    return list(dict.fromkeys(name for word in words for name in _PATH.findall(word)))


def _report(run: ExperimentRun, cells: Sequence[Cell], failures: Mapping[Cell, Failure]) -> int:
    for cell, failure in failures.items():
        print(f'\n{cell.name}: {failure.reason}' + (f'\n{failure.log}' if failure.log else ''))
    done = len(cells) - len(failures)
    if done:
        print(f'\n{done} of {len(cells)} cells are done, table: {write_table(run)}')
    if failures:
        print(f'{len(failures)} of {len(cells)} cells are not done; the same command tries them again')
    return 1 if failures else 0
