"""How much of the built-in world is written in this format, at which size, and what its streets hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

from perception3d.simulation.render.lidar import Relief
from perception3d.simulation.world.population import KITTI_POPULATION, Extras, RareObject


@dataclass(frozen=True)
class SemanticKittiProfile:
    """Sizes and amounts of a data set.

    `columns` per revolution of the LiDAR, which has 64 beams; `scans` of each scene, `interval_s` apart; scenes and
    val_scenes: how many to make. Scenes follow one after the other in a sequence.
    """

    name: str
    columns: int
    scans: int
    interval_s: float
    scenes: int
    val_scenes: int


PROFILES = {
    'tiny': SemanticKittiProfile('tiny', 180, 2, 0.1, 10, 4),
    'points': SemanticKittiProfile('points', 400, 4, 0.5, 75, 25),
    'default': SemanticKittiProfile('default', 2083, 20, 0.1, 20, 8),
}
"""`tiny` is for tests. `points` is for experiments: 300 and 100 scans of about 22,000 points, half a second apart, so
that they differ. `default` has the density and the 10 scans a second of the real LiDAR."""

POPULATION = replace(
    KITTI_POPULATION,
    curb=(0.2, 0.7),
    people=0.5,
    riders=0.1,
    extras=Extras(
        fences=0.7,
        bushes=4.0,
        signs=0.4,
        relief=Relief(curb_m=0.12, grass_m=0.05, leaves_m=0.2),
        rare_objects=(
            RareObject('motorcycle', rider=True),
            RareObject('truck'),
            RareObject('bicycle'),
            RareObject('bicycle', rider=True),
            RareObject('bus'),
            RareObject('motorcycle'),
        ),
    ),
)
"""The road users of KITTI with fewer cyclists, and what the rare classes need."""
