"""How much is written and at which size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perception3d.checks import unknown_name


@dataclass(frozen=True)
class Profile:
    """Sizes and amounts of a data set.

    Images of width x height pixels with `oversampling` x `oversampling` rays each; `keyframes` a scene, 0.5 s apart;
    `sweeps`: also write what the sensors see between keyframes (cameras 12 Hz, scanner 20 Hz); scenes and val_scenes:
    how many to make; shadow_m: size of a shadow-map cell; reach_m: how far from the measuring car there are objects.
    The images of `tiny` show a car at 24 m as 53 pixels and 2 m of road there as a row and a half; its world has no
    objects beyond that, so that what is annotated can be told from the images. `distill` is `tiny` with more scenes,
    most of all to test on: experiments compare models that differ by a few points.
    """

    name: str
    width: int
    height: int
    oversampling: int
    keyframes: int
    sweeps: bool
    scenes: int
    val_scenes: int
    shadow_m: float
    jpeg_quality: int
    reach_m: float = 1000.0


PROFILES = {
    'tiny': Profile('tiny', 352, 96, 2, 2, False, 300, 60, 0.2, 95, 24.0),
    'distill': Profile('distill', 352, 96, 2, 2, False, 600, 240, 0.2, 95, 24.0),
    'default': Profile('default', 1600, 900, 1, 20, True, 8, 2, 0.12, 92),
}


@dataclass(frozen=True)
class KittiProfile:
    """Sizes and amounts of a data set of single frames; images always have KITTI's 1242 x 375 pixels.

    `oversampling` x `oversampling` rays a pixel; `columns` of the scanner's turn; `images`: which cameras take
    pictures; scenes and val_scenes: how many frames to make, each in a scene of its own; shadow_m: size of a shadow-map
    cell. `tiny` has half the real scanner's columns; `lidar` is `tiny` with more frames, for experiments.
    """

    name: str
    oversampling: int
    columns: int
    images: tuple[str, ...]
    scenes: int
    val_scenes: int
    shadow_m: float


KITTI_PROFILES = {
    'tiny': KittiProfile('tiny', 1, 1000, ('image_2',), 120, 60, 0.2),
    'lidar': KittiProfile('lidar', 1, 1000, ('image_2',), 600, 300, 0.2),
    'default': KittiProfile('default', 2, 2083, ('image_2', 'image_3'), 80, 40, 0.12),
}

AnyProfile = Profile | KittiProfile


def find_profile(name: str, profiles: Mapping[str, AnyProfile] = PROFILES) -> AnyProfile:
    """Returns the profile called `name`; InputError names the nearest one otherwise."""
    if name not in profiles:
        raise unknown_name('profile', name, profiles)
    return profiles[name]
