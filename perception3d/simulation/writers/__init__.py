"""Data set formats, one file each; a writer registers itself under the name that `tools/simulate.py` is called with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from perception3d.checks import unknown_name
from perception3d.simulation.profiles import Profile


@dataclass(frozen=True)
class Request:
    """What to write: where, from which seed, at which profile, how many scenes of the two splits."""

    out: Path
    seed: int
    profile: Profile
    scenes: int
    val_scenes: int


@dataclass(frozen=True)
class Job:
    """One scene of a request: `index` is its number in the seed's world, `name` the data set's name for it."""

    request: Request
    index: int
    name: str


@dataclass(frozen=True)
class Writer:
    """A format.

    write_scene(job) writes one scene's sensor files and returns a JSON-able record of it; it runs in any process and
    in any order. finish(request, jobs, records) writes what spans scenes (tables, splits).
    """

    name: str
    write_scene: Callable[[Job], Any]
    finish: Callable[[Request, list[Job], list[Any]], None]


def find_writer(name: str) -> Writer:
    """Returns the writer of a format; InputError names the nearest one otherwise."""
    known = [module.name for module in iter_modules(__path__)]
    found = {}
    for module in known:
        writer = getattr(import_module(f'{__name__}.{module}'), 'WRITER', None)
        if writer is not None:
            found[writer.name] = writer
    if name not in found:
        raise unknown_name('format', name, found)
    return found[name]
