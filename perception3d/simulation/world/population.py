"""Populations: sizes, frequencies and numbers of road users. Each real data set has its own mix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perception3d.simulation.render.lidar import Relief
from perception3d.simulation.world import people, vehicles
from perception3d.simulation.world.agents import OBJECT_CLASSES, ObjectClass


@dataclass(frozen=True)
class RareObject:
    """A rare object near the ego vehicle: its class, and whether a person rides it through the street."""

    name: str
    rider: bool = False


@dataclass(frozen=True)
class Extras:
    """What streets have in addition where every point is annotated, so that there are all kinds of surfaces.

    Attributes:
        fences: share of the open stretches behind the sidewalks that have a fence or a wall.
        bushes, signs: mean number per 10 m of each side of a road, in addition.
        rare_objects: each scene has `rare_per_scene` of them near the ego vehicle, in turn by its number, so that a few
            scenes hold all.
        island_every: one scene of this many has raised traffic islands between the directions of its roads.
        relief: of the ground and of leaves, for a LiDAR; plausible values of our own. Cameras draw a flat ground.
    """

    fences: float
    bushes: float
    signs: float
    rare_objects: tuple[RareObject, ...]
    rare_per_scene: int = 2
    island_every: int = 4
    relief: Relief = Relief(grass_m=0.05, leaves_m=0.2)

    def rare_objects_of(self, index: int) -> list[RareObject]:
        """Returns the rare objects of scene `index`."""
        first = index * self.rare_per_scene
        return [self.rare_objects[(first + k) % len(self.rare_objects)] for k in range(self.rare_per_scene)]

    def has_islands(self, index: int) -> bool:
        """Tells whether the roads of scene `index` have traffic islands."""
        return index % self.island_every == 0


@dataclass(frozen=True)
class Population:
    """A mix of road users.

    Attributes:
        classes: sizes by class name.
        parked, moving: relative frequencies of vehicles at the curb and in the lanes.
        curb: lowest and highest share of occupied parking places of a street.
        people: factor of the number of pedestrians.
        riders: mean number of additional cyclists per 13 m of road, within the part `RIDERS_M` of each road.
        behind_m: how far the world extends behind the start.
        extras: traffic islands, fences, parking places of their own pavement and rare objects; None for none of them.
    """

    classes: Mapping[str, ObjectClass]
    parked: Mapping[str, float]
    moving: Mapping[str, float]
    curb: tuple[float, float] = (0.15, 0.75)
    people: float = 1.0
    riders: float = 0.0
    behind_m: float = 95.0
    extras: Extras | None = None


RIDERS_M = (4.0, 56.0)
"""Where additional cyclists ride, along each road; road 0 starts at the ego vehicle."""

NUSCENES_POPULATION = Population(
    classes=OBJECT_CLASSES,
    parked={
        'car': 0.84,
        'truck': 0.06,
        'bus': 0.02,
        'trailer': 0.04,
        'construction_vehicle': 0.025,
        'motorcycle': 0.04,
    },
    moving={
        'car': 0.66,
        'truck': 0.09,
        'bus': 0.08,
        'trailer': 0.08,
        'motorcycle': 0.075,
        'bicycle': 0.06,
        'construction_vehicle': 0.03,
    },
)

KITTI_POPULATION = Population(
    classes={
        **OBJECT_CLASSES,
        'car': ObjectClass((3.85, 1.50, 1.50), (0.40, 0.09, 0.11), vehicles.car),
        'van': ObjectClass((4.95, 1.75, 2.15), (0.45, 0.10, 0.25), vehicles.van),
        'tram': ObjectClass((16.0, 2.45, 3.50), (1.80, 0.10, 0.10), vehicles.tram),
        'bicycle': ObjectClass((1.70, 0.58, 1.25), (0.10, 0.06, 0.08), people.bicycle),
        'pedestrian': ObjectClass((0.78, 0.62, 1.73), (0.11, 0.07, 0.10), people.pedestrian),
    },
    parked={
        'car': 0.88,
        'van': 0.08,
        'truck': 0.01,
        'trailer': 0.01,
        'construction_vehicle': 0.01,
        'motorcycle': 0.01,
    },
    moving={
        'car': 0.74,
        'van': 0.09,
        'truck': 0.04,
        'bus': 0.02,
        'tram': 0.02,
        'trailer': 0.02,
        'motorcycle': 0.03,
        'bicycle': 0.07,
    },
    curb=(0.55, 0.98),
    people=0.55,
    riders=0.55,
    behind_m=45.0,
)
"""Sizes as in KITTI's labels, and enough objects of the scored classes in every frame to train on.

Labelled boxes include mirrors and a margin of 3 cm, so the sizes here are smaller.
"""
