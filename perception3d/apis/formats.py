"""Commands with one part a data format: the parts are the modules of a package, so a new format is one new file."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType


def find_formats(package: str) -> dict[str, ModuleType]:
    """Returns the modules of a package by format name, sorted; `semantic_kitti.py` is the format `semantic-kitti`."""
    home = importlib.import_module(package)
    names = sorted(module.name for module in pkgutil.iter_modules(home.__path__))
    return {name.replace('_', '-'): importlib.import_module(f'{package}.{name}') for name in names}


def add_formats(
    parser: argparse.ArgumentParser, package: str, parents: Sequence[argparse.ArgumentParser] = ()
) -> dict[str, ModuleType]:
    """Adds one subcommand a format, kept as `format` in the parsed arguments; returns the modules by name.

    A module gives EXAMPLE (a command line), add_arguments(parser), and its docstring as the help text. The options of
    `parents` belong to every format.
    """
    modules = find_formats(package)
    commands = parser.add_subparsers(dest='format', metavar='FORMAT', required=True)
    for name, module in modules.items():
        command = commands.add_parser(
            name,
            parents=list(parents),
            help=str(module.__doc__).strip().splitlines()[0],
            description=module.__doc__,
            epilog=f'example:\n  {module.EXAMPLE}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return modules
