"""The command `perception3d VERB ..`: a module for each verb, with a function `main`, which tools/VERB.py calls too."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

from perception3d import __version__
from perception3d.apis.cli import PROGRAM, run_tool
from perception3d.checks import unknown_name

_USAGE = 2


def verbs() -> dict[str, str]:
    """Returns what each verb does, in one line: the first one of its module, read from the source.

    To import the modules would take seconds.
    """
    folder = Path(__path__[0])
    names = sorted(module.name for module in pkgutil.iter_modules([str(folder)]))
    return {name: _first_line(folder / f'{name}.py') for name in names}


def _first_line(source: Path) -> str:
    return (ast.get_docstring(ast.parse(source.read_text(encoding='utf-8'))) or '').partition('\n')[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the verb that is the first word of `argv` with the words after it, and returns its exit code.

    Raises:
        InputError: there is no such verb; names the nearest one.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] == '--version':
        print(f'{PROGRAM} {__version__}')
        return 0
    if not words or words[0] in ('-h', '--help'):
        print(_overview())
        return 0 if words else _USAGE
    verb = words[0].replace('-', '_')
    if verb not in verbs():
        raise unknown_name('command', words[0], verbs())
    # The usage of the verb, and the commands that messages name, begin with these words.
    sys.argv = [f'{PROGRAM} {verb}', *words[1:]]
    return importlib.import_module(f'{__name__}.{verb}').main(words[1:]) or 0


def command() -> None:
    """Runs the command line of this process and exits; what the console script `perception3d` calls."""
    run_tool(main)


def _overview() -> str:
    known = verbs()
    width = max(map(len, known))
    lines = [f'  {name:{width}}  {text}' for name, text in known.items()]
    return '\n'.join(
        [
            f'usage: {PROGRAM} VERB ..',
            '',
            '3D perception for autonomous driving: models are trained, distilled, tested, exported and drawn.',
            '',
            *lines,
            '',
            f'{PROGRAM} VERB --help explains a verb and shows an example; {PROGRAM} --version prints the version.',
        ]
    )
