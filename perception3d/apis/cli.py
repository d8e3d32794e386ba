"""What all commands share: the parser, one line for a mistake of the user, and exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import re
import select
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from perception3d.checks import InputError
from perception3d.outputs import system_error
from perception3d.workers import end_with_parent

PROGRAM = 'perception3d'
"""The console command."""
CONFIG_HELP = 'path of a config, or the name of a shipped one; a .py config is code and is run, JSON and YAML are data'
CHECKPOINT_HELP = "path of a checkpoint of that config, or 'demo': the packaged weights of the tiny Fast-BEV"


def command_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Returns a parser whose --help ends with `example`."""
    return argparse.ArgumentParser(
        description=as_typed(description),
        epilog=as_typed(f'example:\n  {example}'),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def as_typed(text: str) -> str:
    """Returns `text` with the commands in it as the user of this process types them.

    Texts name them as scripts of the repository, `python tools/train.py`. An installed package has none: where this
    process was started by the command `perception3d`, they become `perception3d train`.
    """
    if not sys.argv[0].startswith(f'{PROGRAM} '):
        return text
    text = re.sub(r'\b(torchrun(?: -\S+)*) tools/(\w+)\.py\b', rf'\1 -m {PROGRAM} \2', text)
    return re.sub(r'(?:\bpython )?\btools/(\w+)\.py\b', rf'{PROGRAM} \1', text)


def run_tool(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Runs a command's `main` and exits.

    Exit codes: 0 or the command's own; 2 with one line for an InputError, and for an OSError (a full
    disk, no permission); 130 when interrupted; 141 without a message when the reader of the output has gone. With
    PERCEPTION3D_TRACEBACK=1 in the environment, the traceback is printed before the line. Warnings of this package for
    users are one line too.
    """
    warnings.formatwarning = _format_warning
    # With a full disk, logging would print a traceback for each line.
    logging.raiseExceptions = False
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        # torchrun, when killed, leaves its processes behind.
        end_with_parent()
    try:
        code = main(None) or 0
        sys.stdout.flush()
    except InputError as error:
        code = _refuse(str(error))
    except OSError as error:
        gone = isinstance(error, BrokenPipeError) and _reader_is_gone()
        code = _READER_GONE if gone else _refuse(system_error(error))
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        code = 130
    sys.exit(code)


_READER_GONE = 141
_PACKAGE = Path(__file__).parents[1]
_format_with_place = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Our own warnings are about inputs; those of libraries are about code, and say where it is."""
    if category is UserWarning and Path(filename).is_relative_to(_PACKAGE):
        return as_typed(f'warning: {message}\n')
    return _format_with_place(message, category, filename, lineno, line)


def _refuse(line: str) -> int:
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        if os.environ.get('PERCEPTION3D_TRACEBACK') == '1':
            traceback.print_exc()
        print(as_typed(f'error: {line}'), file=sys.stderr)
    return 2


def _reader_is_gone() -> bool:
    """Returns whether the reader of the standard output has closed it, as `head` does; then discards more output."""
    try:
        descriptor = sys.stdout.fileno()
        state = select.poll()
    except (OSError, ValueError, AttributeError):
        # Not a file, as in a test, or a system without poll.
        return False
    state.register(descriptor, 0)
    if not any(events & select.POLLERR for _, events in state.poll(0)):
        return False
    # Python flushes the output again when it exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return True
