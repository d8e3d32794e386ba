"""What a format writes of the built-in world: requests, the jobs that they consist of, and the writer of a format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from perception3d.simulation.profiles import Profile

SECOND_SPLIT = 100_000
"""Scenes of the second split are numbered from here, so that the splits never share one."""
_VAL_EVERY = 8
_Profile = TypeVar('_Profile', bound=Profile)


@dataclass(frozen=True)
class Request(Generic[_Profile]):
    """What to write: where, from which seed, at which profile, how many scenes of the two splits."""

    out: Path
    seed: int
    profile: _Profile
    scenes: int
    val_scenes: int


@dataclass(frozen=True)
class Job(Generic[_Profile]):
    """One scene of a request: `index` is its number in the seed's world, `name` the data set's name for it."""

    request: Request[_Profile]
    index: int
    name: str


def train_val_test(index: int) -> str:
    """Returns the split of a scene: the second is for testing, and every eighth scene of the first for validation."""
    if index >= SECOND_SPLIT:
        return 'test'
    return 'val' if index % _VAL_EVERY == _VAL_EVERY - 1 else 'train'


@dataclass(frozen=True)
class Writer:
    """A format.

    write_scene(job) writes one scene's sensor files and returns a JSON-able record of it; it runs in any process and
    in any order. finish(request, jobs, records) writes what spans scenes (tables, splits). Both are functions of a
    module, since other processes import them. version: raise it when the same seed gives other bytes in this format
    alone, so that old folders are not mixed with new ones.
    """

    name: str
    write_scene: Callable[[Job[Any]], Any]
    finish: Callable[[Request[Any], list[Job[Any]], list[Any]], None]
    version: int = 0
