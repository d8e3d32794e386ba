"""The commands of an experiment that run once before its cells, such as rendering the data."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from perception3d.apis.experiment.commands import Launch, prepare_command
from perception3d.apis.experiment.plan import Experiment
from perception3d.apis.experiment.processes import Child, StopRequest, run_to_end, tail
from perception3d.apis.experiment.records import any_begun, code_version
from perception3d.checks import InputError
from perception3d.files import read_json, write_json


def prepared(out: Path) -> list[dict[str, Any]]:
    """Returns what was run: words as in the experiment file, command, seconds, commit."""
    mark = out / 'prepare.json'
    return read_json(mark) if mark.is_file() else []


def prepare(experiment: Experiment, out: Path, launch: Launch, held: int, request: StopRequest) -> None:
    """Runs the commands that were not run yet, one after another; a changed one again, with all after it.

    Raises:
        InputError: a command failed; or one has changed although cells have used what it made.
    """
    done = prepared(out)
    for number, words in enumerate(experiment.prepare):
        if number < len(done) and done[number]['words'] == list(words):
            continue
        if any_begun(out):
            raise InputError(
                f'prepare has changed ({shlex.join(words)}), but cells in {out} have used what the old commands made: '
                'choose another --out'
            )
        done = done[:number]
        write_json(out / 'prepare.json', done, indent=2)
        command, log = prepare_command(experiment, words, out, launch.tools), out / 'prepare.log'
        print(f'prepare: {shlex.join(command)}, log: {log}', flush=True)
        start, version = time.monotonic(), code_version(launch.tools)
        alone = Launch(launch.tools)
        code = run_to_end(Child(command, log, alone.environment(alone.threads), held), request)
        if code:
            raise InputError(f'prepare: {shlex.join(command)} ended with code {code}: {log} ends with {tail(log, 3)}')
        done = [*done, {'words': list(words), 'command': command, 'seconds': time.monotonic() - start, **version}]
        write_json(out / 'prepare.json', done, indent=2)
