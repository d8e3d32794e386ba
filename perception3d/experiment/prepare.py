"""The commands of an experiment that run once before its cells, such as rendering the data."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perception3d.checks import InputError
from perception3d.experiment.commands import Launch, prepare_command
from perception3d.experiment.plan import OUT, Cell, Experiment
from perception3d.experiment.processes import Child, StopRequest, run_to_end, tail
from perception3d.experiment.records import any_begun, code_version
from perception3d.files import read_json, write_json

_PATH = re.compile(rf'\{{{OUT}\}}/([^\s\'";|&<>()]+)')


def prepared(out: Path) -> list[dict[str, Any]]:
    """Returns what was run: words as in the experiment file, command, seconds, commit, and the paths it left."""
    mark = out / 'prepare.json'
    return read_json(mark) if mark.is_file() else []


def prepare(
    experiment: Experiment,
    out: Path,
    launch: Launch,
    request: StopRequest,
    redone: Sequence[Cell] = (),
) -> None:
    """Runs the commands that were not run yet, one after another.

    A command that has changed is run again with all after it, and so is one of which something is gone: a path
    '{out}/...' that it names and that it has left.

    Args:
        redone: cells that are done again, and so may have another beginning.

    Raises:
        InputError: a command failed; or one has changed although cells have used what it made.
    """
    done, commands = prepared(out), experiment.prepare
    kept = next((number for number, words in enumerate(commands) if not _is_of(words, done, number)), len(commands))
    if kept < len(commands) and any_begun(out, redone):
        raise InputError(
            f'prepare has changed ({shlex.join(commands[kept])}), but cells in {out} have used what the old commands '
            'made: choose another --out'
        )
    first = next((number for number, entry in enumerate(done[:kept]) if _is_undone(entry, out)), kept)
    if first == len(commands):
        return
    # Without a time they are not done: a run that ends in between continues with them.
    done[first:] = [{**entry, 'seconds': None} for entry in done[first:kept]]
    for number, words in enumerate(commands[first:], first):
        write_json(out / 'prepare.json', done, indent=2)
        done[number : number + 1] = [_run(experiment, words, out, launch, request)]
    write_json(out / 'prepare.json', done, indent=2)


def _run(
    experiment: Experiment, words: Sequence[str], out: Path, launch: Launch, request: StopRequest
) -> dict[str, Any]:
    command, log = prepare_command(experiment, words, out, launch.tools), out / 'prepare.log'
    print(f'prepare: {shlex.join(command)}, log: {log}', flush=True)
    start, version = time.monotonic(), code_version(launch.tools)
    alone = Launch(launch.tools)
    code = run_to_end(Child(command, log, alone.environment(alone.threads)), request)
    if code:
        raise InputError(f'prepare: {shlex.join(command)} ended with code {code}: {log} ends with {tail(log, 3)}')
    left = [name for name in _named(words) if (out / name).exists()]
    return {
        'words': list(words), 'command': command, 'seconds': time.monotonic() - start, 'left': left, **version
    }  # fmt: skip


def _is_of(words: Sequence[str], done: Sequence[Mapping[str, Any]], number: int) -> bool:
    return number < len(done) and done[number]['words'] == list(words)


def _is_undone(entry: Mapping[str, Any], out: Path) -> bool:
    # Records of earlier versions do not say what a command left: then it is what the command names.
    gone = [name for name in entry.get('left', _named(entry['words'])) if not (out / name).exists()]
    if gone and entry['seconds'] is not None:
        print(f'prepare: {", ".join(gone)} is gone from {out} and made again', flush=True)
    return entry['seconds'] is None or bool(gone)


def _named(words: Sequence[str]) -> list[str]:
    """Returns the paths in the output folder that the words of a command name."""
    return list(dict.fromkeys(name for word in words for name in _PATH.findall(word)))
