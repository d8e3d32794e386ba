"""How much of the built-in world is written in this format, and at which size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StCrowdProfile:
    """Sizes and amounts of a data set of sequences; images always have 1280 x 720 pixels.

    Attributes:
        name: of the profile.
        columns: per revolution of the LiDAR, which has 128 beams.
        frames: of each sequence, 0.4 s apart; a scene is a sequence.
        shrink: an image is rendered with 1 / shrink of its rows and columns and enlarged; 0 for no images.
        oversampling: `oversampling` x `oversampling` rays a pixel.
        shadow_m: size of a shadow-map cell.
        scenes, val_scenes: how many sequences to make.
    """

    name: str
    columns: int
    frames: int
    shrink: int
    oversampling: int
    shadow_m: float
    scenes: int
    val_scenes: int


PROFILES = {
    'tiny': StCrowdProfile('tiny', 512, 3, 8, 1, 1.0, 4, 2),
    'crowds': StCrowdProfile('crowds', 1024, 15, 2, 1, 0.2, 20, 7),
    'default': StCrowdProfile('default', 1024, 50, 1, 2, 0.12, 31, 26),
}
"""`tiny` is for tests. `crowds` is for experiments: 300 and 105 frames. `default` has the shortest sequences and the
numbers of sequences of STCrowd."""
