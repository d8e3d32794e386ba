"""Data set formats, one file each; a writer registers itself under the name that `tools/simulate.py` is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from perception3d.checks import unknown_name
from perception3d.simulation.profiles import PROFILES, AnyProfile


@dataclass(frozen=True)
class Request:
    """What to write: where, from which seed, at which profile, how many scenes of the two splits."""

    out: Path
    seed: int
    profile: AnyProfile
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
    in any order. finish(request, jobs, records) writes what spans scenes (tables, splits). profiles: by name. version:
    raise it when the same seed gives other bytes in this format alone, so that old folders are not mixed with new ones.
    """

    name: str
    write_scene: Callable[[Job], Any]
    finish: Callable[[Request, list[Job], list[Any]], None]
    profiles: Mapping[str, AnyProfile] = field(default_factory=lambda: PROFILES)
    version: int = 0


def list_writers() -> dict[str, Writer]:
    """Returns all formats by name."""
    known = [module.name for module in iter_modules(__path__)]
    found = {}
    for module in known:
        writer = getattr(import_module(f'{__name__}.{module}'), 'WRITER', None)
        if writer is not None:
            found[writer.name] = writer
    return found


def find_writer(name: str) -> Writer:
    """Returns the writer of a format; InputError names the nearest one otherwise."""
    found = list_writers()
    if name not in found:
        raise unknown_name('format', name, found)
    return found[name]
