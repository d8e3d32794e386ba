"""How much of the built-in world is written in this format, and at which size."""

from __future__ import annotations

from dataclasses import dataclass

from perception3d.checks import InputError


@dataclass(frozen=True)
class NuScenesProfile:
    """Sizes and amounts of a data set.

    Images of width x height pixels with `oversampling` x `oversampling` rays each; `keyframes` a scene, 0.5 s apart;
    `sweeps`: also write what the sensors see between keyframes (cameras 12 Hz, LiDAR 20 Hz); scenes and val_scenes:
    how many to make; shadow_m: size of a shadow-map cell; reach_m: how far from the ego vehicle there are objects
    (the name is in simulation.json of every data set).
    The images of `tiny` show a car at 24 m as 53 pixels and 2 m of road there as a row and a half; its world has no
    objects beyond that, so that annotated objects can be seen in the images. `distill` is `tiny` with more scenes,
    above all for testing: experiments compare models that differ by a few points.
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

    def __post_init__(self) -> None:
        if self.keyframes < 1:
            raise InputError(f'cannot make scenes of {self.keyframes} keyframes: give --keyframes 1 or more')


PROFILES = {
    'tiny': NuScenesProfile('tiny', 352, 96, 2, 2, False, 300, 60, 0.2, 95, 24.0),
    'distill': NuScenesProfile('distill', 352, 96, 2, 2, False, 600, 240, 0.2, 95, 24.0),
    'default': NuScenesProfile('default', 1600, 900, 1, 20, True, 8, 2, 0.12, 92),
}
