"""How much is written and at which size."""

from __future__ import annotations

from dataclasses import dataclass

from perception3d.checks import unknown_name


@dataclass(frozen=True)
class Profile:
    """Sizes and amounts of a data set.

    Images of width x height pixels with `oversampling` x `oversampling` rays each; `keyframes` a scene, 0.5 s apart;
    `sweeps`: also write what the sensors see between keyframes (cameras 12 Hz, scanner 20 Hz); scenes and val_scenes:
    how many to make; shadow_m: size of a shadow-map cell.
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


PROFILES = {
    'tiny': Profile('tiny', 256, 96, 2, 2, False, 300, 60, 0.2, 95),
    'default': Profile('default', 1600, 900, 1, 20, True, 8, 2, 0.12, 92),
}


def find_profile(name: str) -> Profile:
    """Returns the profile called `name`; InputError names the nearest one otherwise."""
    if name not in PROFILES:
        raise unknown_name('profile', name, PROFILES)
    return PROFILES[name]
