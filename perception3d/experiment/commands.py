"""The command lines of cells: tools/train.py and tools/test.py, alone or under torchrun or srun."""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perception3d.apis.config import parse_options
from perception3d.checks import InputError
from perception3d.experiment.plan import OUT, Cell, Experiment, fill
from perception3d.experiment.records import CellFolder

_THREADS = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'NUMBA_NUM_THREADS')
_TASKS = re.compile(r'(?:^|\s)(?:-n\s*|--ntasks[=\s])\s*(\d+)(?=\s|$)')
_LAYOUT = re.compile(r'(?:^|\s)(?:-N|--nodes|--ntasks-per-)')


@dataclass(frozen=True)
class Launch:
    """How commands are started.

    Args:
        tools: folder of train.py and test.py.
        jobs: cells side by side.
        launcher: 'none', 'pytorch' or 'slurm'.
        nproc: processes of a cell under torchrun or srun.
        slurm_args: arguments of srun; its number of tasks counts where it is among them.

    Raises:
        InputError: nproc and slurm_args do not agree, or do not say how many tasks there are.
    """

    tools: Path
    jobs: int = 1
    launcher: str = 'none'
    nproc: int = 1
    slurm_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        text, stated = ' '.join(self.slurm_args), self._stated_tasks
        if stated is None and _LAYOUT.search(text):
            raise InputError(f'--slurm-args {text!r} does not say how many tasks a cell has: add -n, such as -n 8')
        if stated is not None and self.nproc not in (1, stated):
            raise InputError(
                f'--nproc {self.nproc}, but --slurm-args {text!r} asks for {stated} tasks: give one of both'
            )

    @property
    def processes(self) -> int:
        """Processes of a cell: each takes a batch of its own, so that results depend on their number."""
        return self._stated_tasks or self.nproc

    @property
    def _stated_tasks(self) -> int | None:
        found = _TASKS.findall(' '.join(self.slurm_args))
        return int(found[-1]) if found else None

    def words(self) -> list[str]:
        """Returns what gives a cell as many processes on the command line of tools/experiment.py."""
        if self.processes == 1:
            return []
        nproc = [] if self._stated_tasks else ['--nproc', str(self.nproc)]
        slurm = [f'--slurm-args={shlex.join(self.slurm_args)}'] if self.slurm_args else []
        return ['--launcher', self.launcher, *nproc, *slurm]

    @property
    def threads(self) -> int | None:
        """Threads of each process: its share of the cores; None under slurm, which knows its own cores."""
        return None if self.launcher == 'slurm' else max(1, _cores() // (self.jobs * self.nproc))

    def command(self, tool: str, words: Sequence[Any]) -> list[str]:
        """Returns the command that runs a tool with `words`."""
        python = [sys.executable, str(self.tools / tool), *map(str, words)]
        if self.launcher == 'pytorch':
            torchrun = ['-m', 'torch.distributed.run', f'--nproc_per_node={self.nproc}', f'--master_port={free_port()}']
            return [sys.executable, *torchrun, *python[1:], '--launcher', 'pytorch']
        if self.launcher == 'slurm':
            # Without a number, srun takes that of the allocation around it.
            tasks = [] if self._stated_tasks else [f'--ntasks={self.nproc}']
            return ['srun', *self.slurm_args, *tasks, *python, '--launcher', 'slurm']
        return python

    def environment(self, threads: int | None) -> dict[str, str]:
        """Returns the environment of a command; `threads` is an upper bound beside what the caller has set.

        OMP_NUM_THREADS of the caller counts for the variables that it has not set, too: torch heeds MKL_NUM_THREADS
        before it, and more threads than were meant made cells side by side wait for one another, 15 times slower.
        """
        environment = {**os.environ, 'PYTHONUNBUFFERED': '1'}
        for name in _THREADS if threads else ():
            given = os.environ.get(name) or os.environ.get('OMP_NUM_THREADS', '')
            environment[name] = str(min(threads, int(given)) if given.isdigit() and int(given) else threads)
        return environment


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def free_port() -> int:
    """Returns a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def prepare_command(experiment: Experiment, words: Sequence[str], out: Path, tools: Path) -> list[str]:
    """Returns a command of `prepare`: a first word in .py is a Python file, else it is a program.

    A Python file is looked for beside the experiment file, then in the repository.

    Raises:
        InputError: no such Python file.
    """
    program, *rest = fill(tuple(words), {OUT: str(out)})
    if not program.endswith('.py'):
        return [program, *rest]
    places = [(folder / program).resolve() for folder in (experiment.file.parent, tools.parent)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(f'{experiment.file}: prepare: there is neither {places[0]} nor {places[1]}')
    return [sys.executable, str(found), *rest]


def train_command(experiment: Experiment, cell: Cell, out: Path, launch: Launch, dry: bool = False) -> list[str]:
    """Returns the command that trains a cell, or resumes its training where that has left a checkpoint.

    Raises:
        InputError: a checkpoint that it needs is not there (with `dry` it stands as a shell expression instead).
    """
    arm, folder = experiment.arms[cell.arm], CellFolder(out, cell)
    words = [arm.config, '--work-dir', folder.work, *folder.start_options()]
    options = option_words(fill(arm.options, _texts(cell, out, dry)), cell.seed)
    return launch.command('train.py', [*words, *options])


def test_command(experiment: Experiment, cell: Cell, out: Path, launch: Launch, dry: bool = False) -> list[str]:
    """Returns the command that tests the final checkpoint of a cell; errors as in train_command."""
    arm, folder = experiment.arms[cell.arm], CellFolder(out, cell)
    words = [arm.test_config, _checkpoint(folder, dry), '--work-dir', folder.work, '--out', folder.metrics_file]
    options = option_words(fill(arm.test_options, _texts(cell, out, dry)), cell.seed)
    return launch.command('test.py', [*words, *options])


def _texts(cell: Cell, out: Path, dry: bool) -> dict[str, str]:
    return {OUT: str(out), **{need.arm: _checkpoint(CellFolder(out, need), dry) for need in cell.needs}}


def _checkpoint(folder: CellFolder, dry: bool) -> str:
    if not dry:
        return folder.checkpoint()
    return f'{folder.work}/$(cat {shlex.quote(str(folder.pointer))})'


def option_words(options: Mapping[str, Any], seed: int) -> list[str]:
    """Returns `options` and the seed as --cfg-options.

    Raises:
        InputError: a value that does not survive the command line, such as a class.
    """
    words = ['--cfg-options', f'+randomness.seed={seed}']
    for key, value in options.items():
        text = f'{key}={value}' if isinstance(value, str) else f'{key}={value!r}'
        if parse_options([text]) != {key: value}:
            text = f'{key}={value!r}'
        if parse_options([text]) != {key: value}:
            raise InputError(f'option {key} = {value!r} cannot stand on a command line: put it into a config')
        words.append(text)
    return words


def shell_line(command: Sequence[str]) -> str:
    """Returns a command as one line for a shell; the shell expressions of a dry run stay alive."""
    return ' '.join(f'"{word}"' if '$(cat ' in word else shlex.quote(word) for word in command)


def short_line(command: Sequence[str], repository: Path) -> str:
    """Returns a command as a reader in the folder `repository` would type it."""
    line = shlex.join('python' if word == sys.executable else word for word in command)
    return line.replace(f'{repository}/', '')
