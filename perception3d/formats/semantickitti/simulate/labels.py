"""The annotation of a point: the name of what it lies on, and which object it is part of.

By the rules of Behley et al., "SemanticKITTI", ICCV 2019, as recalled [M]: a two-wheeler and its rider are one object,
vans are cars, a towed trailer is a truck, and an object that moves while it is observed is `moving-` in all scans.
Curbs count as sidewalk and barriers as fences; cones, bins and cabinets are `other-object`, which is not scored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.formats.semantickitti.files import LABEL_IDS
from perception3d.simulation.render.surfaces import Surface
from perception3d.simulation.world.agents import Agent

NAMES = {
    Surface.TERRAIN: 'terrain',
    Surface.SIDEWALK: 'sidewalk',
    Surface.CURB: 'sidewalk',
    Surface.ROAD: 'road',
    Surface.MARKING: 'lane-marking',
    Surface.PARKING: 'parking',
    Surface.ISLAND: 'other-ground',
    Surface.BUILDING: 'building',
    Surface.FENCE: 'fence',
    Surface.VEGETATION: 'vegetation',
    Surface.TRUNK: 'trunk',
    Surface.POLE: 'pole',
    Surface.SIGN: 'traffic-sign',
    Surface.FIXTURE: 'other-object',
}
OBJECT_NAMES = {
    'car': 'car',
    'van': 'car',
    'truck': 'truck',
    'bus': 'bus',
    'tram': 'on-rails',
    'construction_vehicle': 'other-vehicle',
    'pedestrian': 'person',
    'bicycle': 'bicycle',
    'motorcycle': 'motorcycle',
}
RIDDEN_NAMES = {'bicycle': 'bicyclist', 'motorcycle': 'motorcyclist'}
THING_NAMES = {'barrier': 'fence', 'traffic_cone': 'other-object'}
"""Objects of the world that are no objects here: they have no instance."""
MOVING_M_S = 0.2
"""Speed from which an object moves. A value of our own."""


def annotated_name(agent: Agent, moves: bool) -> str:
    """Returns the annotated name of an object; moves: it moves while it is observed."""
    if agent.name in THING_NAMES:
        return THING_NAMES[agent.name]
    if agent.body.rider:
        name = RIDDEN_NAMES[agent.name]
    elif agent.name == 'trailer':
        name = 'other-vehicle' if agent.parked else 'truck'
    else:
        name = OBJECT_NAMES[agent.name]
    # A bicycle or motorcycle without a rider does not move.
    return f'moving-{name}' if moves else name


def agent_ids(agents: list[Agent], speeds: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Returns the ids (A,) of objects whose highest speeds while they are observed are `speeds` (A,) in m/s."""
    names = [annotated_name(agent, speed > MOVING_M_S) for agent, speed in zip(agents, speeds, strict=True)]
    return np.array([LABEL_IDS[name] for name in names], np.uint32)


def surface_ids() -> npt.NDArray[np.uint32]:
    """Returns the id (S,) of each `Surface`; that of objects is 0, since it depends on the object."""
    return np.array([LABEL_IDS[NAMES.get(surface, 'unlabeled')] for surface in Surface], np.uint32)


def has_instance(agent: Agent) -> bool:
    """Tells whether an object is told apart from others of its class."""
    return agent.name not in THING_NAMES
