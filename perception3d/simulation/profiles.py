"""What every profile has: how much of the built-in world is written, and how finely it is sampled."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from perception3d.checks import unknown_name


class Profile(Protocol):
    """Amounts of a data set. Each format has a frozen dataclass of its own with at least these fields.

    Attributes:
        name: of the profile.
        scenes, val_scenes: how many scenes of the two splits to make.
    """

    # What makes it a dataclass; the rest as properties, since a frozen one has no fields that can be set.
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...

    @property
    def scenes(self) -> int: ...

    @property
    def val_scenes(self) -> int: ...


class ImageProfile(Profile, Protocol):
    """What a profile with camera images has in addition.

    Attributes:
        oversampling: `oversampling` x `oversampling` rays a pixel.
        shadow_m: size of a cell of the shadow map, in metres.
    """

    @property
    def oversampling(self) -> int: ...

    @property
    def shadow_m(self) -> float: ...


@dataclass(frozen=True)
class LaneProfile:
    """Sizes and amounts of a data set of lanes, whose images always have the size of the format's camera.

    Attributes:
        name: of the profile.
        frames: images of each scene, `interval_s` apart.
        oversampling: `oversampling` x `oversampling` rays a pixel.
        shrink: an image is rendered with 1 / shrink of its rows and columns and enlarged; see
            `lane_capture.Sampling`.
        scenes, val_scenes: how many scenes to make, to train on and to test on.
    """

    name: str
    frames: int
    interval_s: float
    oversampling: int
    shrink: int
    scenes: int
    val_scenes: int


def find_profile(name: str, profiles: Mapping[str, Any]) -> Any:
    """Returns the profile called `name`; InputError names the nearest one otherwise."""
    if name not in profiles:
        raise unknown_name('profile', name, profiles)
    return profiles[name]


def add_profile(parser: argparse.ArgumentParser, profiles: Mapping[str, Any]) -> None:
    """Adds the option --profile of a format."""
    parser.add_argument(
        '--profile', default='default', help=f'sizes and amounts: {", ".join(profiles)} (default: default)'
    )
