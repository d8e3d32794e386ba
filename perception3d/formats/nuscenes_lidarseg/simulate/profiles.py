"""How much of the built-in world is written in this format, at which size, and what its streets hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

from perception3d.formats.nuscenes.simulate.profiles import NuScenesProfile
from perception3d.simulation.world.population import NUSCENES_POPULATION, Extras, RareObject


@dataclass(frozen=True)
class NuScenesLidarsegProfile(NuScenesProfile):
    """Sizes and amounts of a data set: those of nuScenes, and of the LiDAR.

    `columns` per revolution of the LiDAR, which has 32 beams; images: also write what the cameras see.
    """

    columns: int = 1090
    images: bool = True


PROFILES = {
    'tiny': NuScenesLidarsegProfile('tiny', 352, 96, 1, 2, False, 6, 4, 0.2, 95, columns=300, images=False),
    'points': NuScenesLidarsegProfile('points', 352, 96, 1, 2, False, 150, 50, 0.2, 95, columns=720, images=False),
    'default': NuScenesLidarsegProfile('default', 1600, 900, 1, 20, True, 8, 4, 0.12, 92),
}
"""`tiny` is for tests. `points` is for experiments: 300 and 100 keyframes of about 20,000 points. `default` has the
sensors of nuScenes, with sweeps and images between keyframes."""

POPULATION = replace(
    NUSCENES_POPULATION,
    extras=Extras(
        fences=0.7,
        bushes=4.0,
        signs=0.4,
        rare_objects=(
            RareObject('bus'),
            RareObject('motorcycle'),
            RareObject('construction_vehicle'),
            RareObject('bicycle'),
            RareObject('trailer'),
            RareObject('motorcycle', rider=True),
            RareObject('truck'),
            RareObject('bicycle', rider=True),
            RareObject('traffic_cone'),
        ),
        rare_per_scene=3,
    ),
)
"""The road users of nuScenes, and what the rare classes need."""
