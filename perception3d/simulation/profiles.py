"""How much is written and at which size."""

from __future__ import annotations

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


def find_profile(name: str) -> Profile:
    """Returns the profile called `name`; InputError names the nearest one otherwise."""
    if name not in PROFILES:
        raise unknown_name('profile', name, PROFILES)
    return PROFILES[name]
