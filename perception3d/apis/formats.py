"""Finds the data formats: the folders of `perception3d.formats` and those of installed packages outside."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

from perception3d import formats
from perception3d.apis.cli import as_typed
from perception3d.checks import InputError, unknown_name
from perception3d.formats import Command, Format

ENTRY_POINTS = 'perception3d.formats'


def find_formats(wanted: str | None = None) -> dict[str, Format]:
    """Returns all formats by name, sorted.

    A broken entry point of the group `perception3d.formats` (it does not load, gives something else than a Format, or
    takes a name that another format has) is left out with a warning on stderr.

    Raises:
        InputError: the broken entry point is the one called `wanted`.
    """
    modules = sorted(module.name for module in pkgutil.iter_modules(formats.__path__))
    found = [importlib.import_module(f'{formats.__name__}.{name}').FORMAT for name in modules]
    known = {plugin.name: plugin for plugin in found}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            plugin = _load(entry, known)
        except InputError as error:
            if entry.name == wanted:
                raise
            print(f'warning: {error}', file=sys.stderr)
            continue
        known[plugin.name] = plugin
    return dict(sorted(known.items()))


def find_command(name: str, command: str) -> Command:
    """Returns what a format, by its name or an alias, gives to 'create_data', 'evaluate' or 'simulate'.

    Raises:
        InputError: there is no such format, or it takes no part in that command.
    """
    known = {
        key: getattr(plugin, command)
        for plugin in find_formats(name).values()
        if getattr(plugin, command)
        for key in (plugin.name, *plugin.aliases)
    }
    if name not in known:
        raise unknown_name('format', name, known)
    return known[name]


def parse_arguments(
    parser: argparse.ArgumentParser,
    command: str,
    argv: Sequence[str] | None = None,
    parents: Sequence[argparse.ArgumentParser] = (),
) -> argparse.Namespace:
    """Adds one subcommand for each format with this command, and parses.

    The result has the `run` of the format's command, and `format`, its name also where an alias was given. The options
    of `parents` belong to every format.

    Raises:
        InputError: the first word is not the name of a format.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith('-'):
        find_command(words[0], command)
    commands = parser.add_subparsers(metavar='FORMAT', required=True)
    for name, plugin in find_formats().items():
        part = getattr(plugin, command)
        if part is None:
            continue
        subparser = commands.add_parser(
            name,
            aliases=list(plugin.aliases),
            parents=list(parents),
            help=' '.join(part.description.split('\n\n')[0].split()),
            description=as_typed(part.description),
            epilog=as_typed(f'example:\n  {part.example}'),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        part.add_arguments(subparser)
        subparser.set_defaults(format=name, run=part.run)
    return parser.parse_args(words)


def _load(entry: EntryPoint, known: Mapping[str, Format]) -> Format:
    package = f'{entry.value} of the package {entry.dist.name}' if entry.dist else entry.value
    try:
        plugin = entry.load()
    except Exception as error:
        raise InputError(
            f'the format plugin {package} does not load ({type(error).__name__}: {error}): fix or uninstall it'
        ) from error
    if not isinstance(plugin, Format):
        raise InputError(f'the format plugin {package} is a {type(plugin).__name__}: expected a Format')
    taken = known.keys() | {alias for other in known.values() for alias in other.aliases}
    if twice := taken & {plugin.name, *plugin.aliases}:
        raise InputError(f'the format {min(twice)} of {package} exists already: give it another name')
    return plugin
