"""The annotated objects: classes, sizes, shapes, and what is known about each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from perception3d.simulation.render.primitives import Primitives
from perception3d.simulation.render.shade import as_triple
from perception3d.simulation.world import people, vehicles


@dataclass(frozen=True)
class ObjectClass:
    """A class of objects: mean and spread of length, width, height in metres, and the function that builds one.

    The means follow the published nuScenes statistics; the spreads are ours.
    """

    mean: tuple[float, float, float]
    spread: tuple[float, float, float]
    build: Callable[..., Primitives]


OBJECT_CLASSES: dict[str, ObjectClass] = {
    'car': ObjectClass((4.62, 1.95, 1.66), (0.34, 0.11, 0.14), vehicles.car),
    'truck': ObjectClass((6.93, 2.51, 2.95), (1.30, 0.18, 0.45), vehicles.truck),
    'trailer': ObjectClass((11.0, 2.80, 3.80), (2.00, 0.15, 0.30), vehicles.trailer),
    'bus': ObjectClass((11.2, 2.94, 3.47), (0.90, 0.10, 0.20), vehicles.bus),
    'construction_vehicle': ObjectClass((6.37, 2.73, 3.10), (0.70, 0.20, 0.30), vehicles.construction_vehicle),
    'bicycle': ObjectClass((1.72, 0.60, 1.25), (0.10, 0.06, 0.08), people.bicycle),
    'motorcycle': ObjectClass((2.11, 0.77, 1.30), (0.14, 0.07, 0.09), people.motorcycle),
    'pedestrian': ObjectClass((0.73, 0.67, 1.75), (0.10, 0.07, 0.10), people.pedestrian),
    'traffic_cone': ObjectClass((0.41, 0.41, 0.90), (0.05, 0.05, 0.14), people.traffic_cone),
    'barrier': ObjectClass((0.50, 2.40, 1.00), (0.06, 0.30, 0.08), people.barrier),
}
RIDER_HEIGHT = {'bicycle': 1.72, 'motorcycle': 1.66}


MARGIN_M = 0.03
"""Margin between solids and box, as annotators leave it: points on a face stay inside in spite of range noise."""


@dataclass(frozen=True)
class Body:
    """An object without a pose: class name, its solids and its box.

    solids: x forward, y left, z up, origin at the center of the box's bottom. size_m: (length, width, height) of the
    box that encloses the solids, `MARGIN_M` wider at the sides and above. rider: a person rides it. worker: a
    construction worker.
    """

    name: str
    solids: Primitives
    size_m: tuple[float, float, float]
    rider: bool = False
    worker: bool = False


def make_body(
    rng: np.random.Generator,
    name: str,
    rider: bool = False,
    worker: bool = False,
    classes: Mapping[str, ObjectClass] = OBJECT_CLASSES,
) -> Body:
    """Draws an object of class `name` with a size from `classes`."""
    drawn = classes[name]
    draw = np.array(drawn.mean) + np.array(drawn.spread) * np.clip(rng.normal(size=3), -1.8, 1.8)
    extra = {}
    if rider:
        draw[2] = RIDER_HEIGHT[name] + 0.07 * np.clip(rng.normal(), -1.8, 1.8)
        extra['rider'] = True
    if worker:
        extra['worker'] = True
    solids = drawn.build(rng, *map(float, draw), **extra)
    low, high = solids.bounds()
    middle = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    size = as_triple(np.round(high - low + [2 * MARGIN_M, 2 * MARGIN_M, MARGIN_M], 3))
    return Body(name, solids.moved(-middle), size, rider, worker)


@dataclass
class Agent:
    """A body and its track over time.

    track (T, 3): x, y in world metres and yaw in radians of the box's center on the scene's time grid; speed (T,) m/s.
    parked: it has no driver and does not move during the scene.
    """

    body: Body
    track: np.ndarray
    speed: np.ndarray
    parked: bool = False

    @property
    def name(self) -> str:
        """Class name."""
        return self.body.name


def still(body: Body, x: float, y: float, yaw_rad: float, steps: int, parked: bool = False) -> Agent:
    """Returns an agent that stays where it is for `steps` grid times."""
    return Agent(body, np.tile(np.array([x, y, yaw_rad], float), (steps, 1)), np.zeros(steps), parked)
