"""The command lines of cells: the commands train and test, alone or under torchrun or srun."""

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

from perception3d.apis.cli import PROGRAM
from perception3d.apis.option_texts import parse_options
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
        tools: folder of the scripts train.py and test.py; None: the commands of the installed package.
        jobs: cells side by side.
        launcher: 'none', 'pytorch' or 'slurm'.
        nproc: processes of a cell under torchrun or srun.
        slurm_args: arguments of srun; its number of tasks counts where it is among them.

    Raises:
        InputError: nproc and slurm_args disagree, or do not give the number of tasks.
    """

    tools: Path | None
    jobs: int = 1
    launcher: str = 'none'
    nproc: int = 1
    slurm_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        text, stated = ' '.join(self.slurm_args), self._stated_tasks
        if stated is None and _LAYOUT.search(text):
            raise InputError(f'--slurm-args {text!r} does not give the number of tasks of a cell: add -n, such as -n 8')
        if stated is not None and self.nproc not in (1, stated):
            raise InputError(
                f'--nproc {self.nproc}, but --slurm-args {text!r} asks for {stated} tasks: give only one of the two'
            )

    @property
    def repository(self) -> Path | None:
        """The checkout with the scripts, if any."""
        return self.tools and self.tools.parent

    def script(self, verb: str) -> list[str]:
        """Returns what Python runs for a command of this package: a script of the checkout, or the package itself."""
        return ['-m', PROGRAM, verb] if self.tools is None else [str(self.tools / f'{verb}.py')]

    @property
    def processes(self) -> int:
        """Processes of a cell: each takes a batch of its own, so results depend on their number."""
        return self._stated_tasks or self.nproc

    @property
    def _stated_tasks(self) -> int | None:
        numbers = _TASKS.findall(' '.join(self.slurm_args))
        return int(numbers[-1]) if numbers else None

    def words(self) -> list[str]:
        """Returns the options of tools/experiment.py that give a cell this number of processes."""
        if self.processes == 1:
            return []
        nproc = [] if self._stated_tasks else ['--nproc', str(self.nproc)]
        slurm = [f'--slurm-args={shlex.join(self.slurm_args)}'] if self.slurm_args else []
        return ['--launcher', self.launcher, *nproc, *slurm]

    @property
    def threads(self) -> int | None:
        """Threads of each process: its share of the cores; None under slurm, which assigns cores itself."""
        return None if self.launcher == 'slurm' else max(1, _cores() // (self.jobs * self.nproc))

    def command(self, verb: str, words: Sequence[Any]) -> list[str]:
        """Returns the command that runs 'train' or 'test' with `words`."""
        python = [sys.executable, *self.script(verb), *map(str, words)]
        if self.launcher == 'pytorch':
            torchrun = ['-m', 'torch.distributed.run', f'--nproc_per_node={self.nproc}', f'--master_port={free_port()}']
            return [sys.executable, *torchrun, *python[1:], '--launcher', 'pytorch']
        if self.launcher == 'slurm':
            # Without a number, srun takes that of the allocation it runs in.
            tasks = [] if self._stated_tasks else [f'--ntasks={self.nproc}']
            return ['srun', *self.slurm_args, *tasks, *python, '--launcher', 'slurm']
        return python

    def environment(self, threads: int | None) -> dict[str, str]:
        """Returns the environment of a command; `threads` is an upper bound for the numbers that the caller has set.

        OMP_NUM_THREADS of the caller also holds for the variables that are not set: torch reads MKL_NUM_THREADS first,
        and with more threads than cores, cells side by side were 15 times slower.
        """
        environment = {**os.environ, 'PYTHONUNBUFFERED': '1'}
        if not threads:
            return environment
        for name in _THREADS:
            given = os.environ.get(name) or os.environ.get('OMP_NUM_THREADS', '')
            environment[name] = str(min(threads, int(given)) if given.isdigit() and int(given) else threads)
        return environment


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def free_port() -> int:
    """Returns a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class ExperimentRun:
    """An experiment, the output folder of its cells, and how its commands are started."""

    experiment: Experiment
    out: Path
    launch: Launch

    def folder(self, cell: Cell) -> CellFolder:
        """Returns the folder of a cell."""
        return CellFolder(self.out, cell)

    def prepare_command(self, words: Sequence[str]) -> list[str]:
        """Returns a command of `prepare`: a first word that ends in .py is a Python file, else it is a program.

        A Python file is looked for next to the experiment file, then in the repository; without a repository,
        `tools/VERB.py` is the command of that name.

        Raises:
            InputError: there is no such Python file.
        """
        program, *rest = fill(tuple(words), {OUT: str(self.out)})
        if not program.endswith('.py'):
            return [program, *rest]
        parents = [self.experiment.file.parent, *filter(None, [self.launch.repository])]
        files = [(folder / program).resolve() for folder in parents]
        file = next((file for file in files if file.is_file()), None)
        if file is None and self.launch.tools is None and Path(program).parent == Path('tools'):
            return [sys.executable, *self.launch.script(Path(program).stem), *rest]
        if file is None:
            raise InputError(f'{self.experiment.file}: prepare: neither {files[0]} nor {files[-1]} exists')
        return [sys.executable, str(file), *rest]

    def train_command(self, cell: Cell, dry: bool = False) -> list[str]:
        """Returns the command that trains a cell, or resumes its training from its last checkpoint.

        Raises:
            InputError: a checkpoint that it needs does not exist (with `dry` a shell expression stands for it).
        """
        arm, folder = self.experiment.arms[cell.arm], self.folder(cell)
        words = [arm.config, '--work-dir', folder.work, *folder.start_options()]
        options = option_words(fill(arm.options, self._texts(cell, dry)), cell.seed)
        return self.launch.command('train', [*words, *options])

    def test_command(self, cell: Cell, dry: bool = False) -> list[str]:
        """Returns the command that tests the final checkpoint of a cell; errors as in train_command."""
        arm, folder = self.experiment.arms[cell.arm], self.folder(cell)
        words = [arm.test_config, _checkpoint(folder, dry), '--work-dir', folder.work, '--out', folder.metrics_file]
        options = option_words(fill(arm.test_options, self._texts(cell, dry)), cell.seed)
        return self.launch.command('test', [*words, *options])

    def _texts(self, cell: Cell, dry: bool) -> dict[str, str]:
        return {OUT: str(self.out), **{need.arm: _checkpoint(self.folder(need), dry) for need in cell.needs}}


def _checkpoint(folder: CellFolder, dry: bool) -> str:
    if not dry:
        return folder.checkpoint()
    return f'{folder.work}/$(cat {shlex.quote(str(folder.pointer))})'


def option_words(options: Mapping[str, Any], seed: int) -> list[str]:
    """Returns `options` and the seed as --cfg-options.

    Raises:
        InputError: a value that cannot be given on a command line, such as a class.
    """
    words = ['--cfg-options', f'+randomness.seed={seed}']
    for key, value in options.items():
        text = f'{key}={value}' if isinstance(value, str) else f'{key}={value!r}'
        if parse_options([text]) != {key: value}:
            text = f'{key}={value!r}'
        if parse_options([text]) != {key: value}:
            raise InputError(f'option {key} = {value!r} cannot be given on a command line: put it into a config')
        words.append(text)
    return words


def shell_line(command: Sequence[str]) -> str:
    """Returns a command as one line for a shell; the shell expressions of a dry run are not quoted."""
    return ' '.join(f'"{word}"' if '$(cat ' in word else shlex.quote(word) for word in command)


def short_line(command: Sequence[str], repository: Path | None) -> str:
    """Returns a command as a reader in the folder `repository` would type it, or anywhere if there is none."""
    line = shlex.join('python' if word == sys.executable else word for word in command)
    return line.replace(f'{repository}/', '') if repository else line.replace(f'python -m {PROGRAM} ', f'{PROGRAM} ')
