"""What tools/experiment.py does: plan, prepare, run the cells, write the table."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from perception3d.benchmark.report import machine
from perception3d.checks import InputError, unknown_name
from perception3d.experiment.commands import Launch, prepare_command, shell_line, test_command, train_command
from perception3d.experiment.fingerprint import fingerprints
from perception3d.experiment.plan import Cell, Experiment, read_experiment, with_needs
from perception3d.experiment.prepare import prepare, prepared
from perception3d.experiment.processes import StopRequest
from perception3d.experiment.records import CellFolder, check_identity, check_metrics, versions
from perception3d.experiment.schedule import CellQueue, Failure
from perception3d.experiment.table import markdown, summarise, wall_times
from perception3d.files import write_json, write_whole
from perception3d.locks import folder_lock
from perception3d.outputs import check_outputs


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Args:
        out: output folder; by default work_dirs/<name of the experiment>.
        only, seeds: run these arms, these seeds, and what they need; None for all.
        redo: arms whose cells are done again, with those that were made from them.
        dry_run: print the commands alone.
        table_only: write the table of what is done alone.
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
    """Does what is not done of an experiment and writes its table after every cell.

    Returns:
        0 when all that was asked for is done, 1 when cells failed.

    Raises:
        InputError: a mistake in the experiment file or the request; cells of another config; a folder in use.
        KeyboardInterrupt: stopped by the user; the same call continues.
    """
    experiment = read_experiment(request.file)
    out = (request.out or Path('work_dirs') / experiment.name).resolve()
    chosen = _chosen(experiment, request)
    redone = _redone(experiment, request, chosen, out)
    digests = fingerprints(experiment, request.launch.processes)
    # All commands are built once before any is run, so that a mistake in the last one costs nothing.
    plan = _commands(experiment, chosen, redone, out, request.launch)
    if request.dry_run:
        print(plan)
        return 0
    if request.table_only:
        _check_cells(experiment, out, digests)
        print(f'table: {write_table(experiment, out, request.launch)}')
        return 0
    check_outputs(folders=[out])
    with folder_lock(out), StopRequest() as stop_request:
        _check_cells(experiment, out, digests, redone)
        prepare(experiment, out, request.launch, stop_request, redone)
        # Last of all, so that nothing is removed which is not done again.
        _remove(redone, out)
        queue = CellQueue(
            experiment,
            out,
            request.launch,
            digests,
            _facts(request.launch),
            stop_request,
            on_done=lambda: write_table(experiment, out, request.launch),
        )
        failures = queue.run(chosen)
        return _report(experiment, out, request.launch, chosen, failures)


def _chosen(experiment: Experiment, request: Request) -> list[Cell]:
    cells = experiment.cells()
    for arm in [*(request.only or ()), *request.redo]:
        if arm not in experiment.arms:
            raise unknown_name('arm', arm, experiment.arms)
    for seed in request.seeds or ():
        if seed not in {cell.seed for cell in cells}:
            raise unknown_name('seed', str(seed), {cell.seed for cell in cells})
    arms = None if request.only is None else {*request.only, *request.redo}
    asked = [cell for cell in cells if arms is None or cell.arm in arms]
    asked = [cell for cell in asked if request.seeds is None or cell.seed in request.seeds]
    if not asked:
        raise InputError('no cell has both an arm of --only and a seed of --seeds')
    return with_needs(asked, cells)


def _redone(experiment: Experiment, request: Request, chosen: Sequence[Cell], out: Path) -> list[Cell]:
    """Returns the cells to do again: those of --redo, and those that were made from them.

    Raises:
        InputError: some of the latter are not `chosen`; they would be lost.
    """
    seeds, arms = request.seeds, ' '.join(request.redo)
    redone: list[Cell] = []
    if request.redo and seeds and not any(set(seeds) & set(experiment.arms[arm].seeds) for arm in request.redo):
        raise InputError(f'--redo {arms}: no seed of --seeds is theirs')
    for cell in _by_need(experiment.cells()):
        asked = cell.arm in request.redo and (seeds is None or cell.seed in seeds)
        if asked or any(need in redone for need in cell.needs):
            redone.append(cell)
    left = [cell.name for cell in redone if cell not in chosen and CellFolder(out, cell).progress()]
    if left:
        raise InputError(
            f'--redo {arms}: {", ".join(left)} were made from what is done again, but --only or --seeds leave them '
            'out: add them there'
        )
    return redone


def _by_need(cells: Sequence[Cell]) -> list[Cell]:
    """Returns cells with each behind all that it needs."""
    ordered: list[Cell] = []
    for cell in cells:
        ordered += [other for other in [*_by_need(cell.needs), cell] if other not in ordered]
    return ordered


def _remove(cells: Sequence[Cell], out: Path) -> None:
    for cell in cells:
        folder = CellFolder(out, cell)
        if folder.path.is_dir():
            print(f'{cell.name} is done again')
            shutil.rmtree(folder.path)


def _commands(experiment: Experiment, cells: Sequence[Cell], redone: Sequence[Cell], out: Path, launch: Launch) -> str:
    lines = []
    for words in experiment.prepare:
        lines += ['# before the cells', shell_line(prepare_command(experiment, words, out, launch.tools))]
    for cell in cells:
        needs = f', needs {", ".join(need.name for need in cell.needs)}' if cell.needs else ''
        again = ', is done again' if cell in redone else ', done'
        lines.append(f'# {cell.name}{again if CellFolder(out, cell).record() else ""}{needs}')
        for build in (train_command, test_command):
            lines.append(shell_line(build(experiment, cell, out, launch, dry=True)))
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


def write_table(experiment: Experiment, out: Path, launch: Launch) -> Path:
    """Writes <name>.json and <name>.md from the cells that are done, and returns the path of the latter.

    Raises:
        InputError: no cell is done.
    """
    order = {cell: number for number, cell in enumerate(experiment.cells())}
    cells = sorted(order, key=lambda cell: (list(experiment.arms).index(cell.arm), order[cell]))
    records = [record for cell in cells if (record := CellFolder(out, cell).record())]
    if not records:
        raise InputError(f'{out} holds no cell of {experiment.name} that is done')
    rows, before = summarise(experiment, records), prepared(out)
    words = [str(experiment.file), '--out', str(out), *launch.words()]
    command = [sys.executable, str(launch.tools / 'experiment.py'), *words]
    content = {
        'name': experiment.name,
        'command': command,
        'scale': experiment.scale,
        'arms': rows,
        'seconds': wall_times(records, before),
        'prepared': before,
        'cells': records,
    }
    write_json(out / f'{experiment.name}.json', content, indent=2)
    path = out / f'{experiment.name}.md'
    with write_whole(path) as temporary:
        text = markdown(experiment, rows, records, before, command, launch.tools.parent)
        temporary.write_text(text, encoding='utf-8')
    return path


def _report(
    experiment: Experiment, out: Path, launch: Launch, cells: Sequence[Cell], failures: Mapping[Cell, Failure]
) -> int:
    for cell, failure in failures.items():
        print(f'\n{cell.name}: {failure.reason}' + (f'\n{failure.log}' if failure.log else ''))
    done = len(cells) - len(failures)
    if done:
        print(f'\n{done} of {len(cells)} cells are done, table: {write_table(experiment, out, launch)}')
    if failures:
        print(f'{len(failures)} of {len(cells)} cells are not done; the same command tries them again')
    return 1 if failures else 0
