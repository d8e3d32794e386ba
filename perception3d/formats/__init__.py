"""The data formats, one folder each, and what a format gives to the commands.

`FORMAT` in the `__init__.py` of a folder is its plugin. A package outside of this one names its own by an entry point:

    [project.entry-points."perception3d.formats"]
    my-boxes = "my_package.my_boxes:FORMAT"
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """What a format adds to one command.

    Attributes:
        description: the help text; its first line is the summary in the list of formats.
        example: a command line.
        add_arguments: adds the options that only this format has.
        run: does the work for the parsed options. Modules that take long to import are imported in it, so that --help
            is quick. `create_data` returns nothing: it writes below `args.root` and prints what. `evaluate` returns the
            scores, a dict for JSON, and the table to print. `simulate` returns a `perception3d.simulation.jobs.Writer`
            and the profile of data that the options ask for.
    """

    description: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Any]


def simulate_command(description: str, example: str, package: str) -> Command:
    """Returns the command `simulate` of a format whose only option is --profile.

    Args:
        description: as of Command.
        example: as of Command.
        package: has the modules `profiles` with PROFILES, name -> profile, and `writer` with WRITER.
    """

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        from perception3d.simulation.profiles import add_profile

        add_profile(parser, importlib.import_module(f'{package}.profiles').PROFILES)

    def run(args: argparse.Namespace) -> tuple[Any, Any]:
        from perception3d.simulation.profiles import find_profile

        profiles = importlib.import_module(f'{package}.profiles').PROFILES
        return importlib.import_module(f'{package}.writer').WRITER, find_profile(args.profile, profiles)

    return Command(description, example, add_arguments, run)


@dataclass(frozen=True)
class Format:
    """A data format: its name on the command line, older names of it, and the commands that it takes part in."""

    name: str
    create_data: Command | None = None
    evaluate: Command | None = None
    simulate: Command | None = None
    aliases: tuple[str, ...] = ()
