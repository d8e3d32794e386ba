"""The annotation of a point: the category of what it lies on, and which object it is part of.

A two-wheeler and its rider are one object, as in nuScenes. By its rules fences, poles and signs are
`static.manmade`, trunks are vegetation, and traffic islands are `flat.other`; curbs count as sidewalk here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception3d.formats.nuscenes.simulate.tables import CATEGORIES
from perception3d.formats.nuscenes_lidarseg.files import CLASS_OF_CATEGORY
from perception3d.simulation.render.lidar import Sweep
from perception3d.simulation.render.surfaces import Surface
from perception3d.simulation.world.agents import Agent

CATEGORY_INDEX = {category: index for index, category in enumerate(CLASS_OF_CATEGORY)}
"""Category -> id in label files, in the order of nuScenes-lidarseg."""

SURFACE_CATEGORIES = {
    Surface.TERRAIN: 'flat.terrain',
    Surface.SIDEWALK: 'flat.sidewalk',
    Surface.CURB: 'flat.sidewalk',
    Surface.ROAD: 'flat.driveable_surface',
    Surface.MARKING: 'flat.driveable_surface',
    Surface.PARKING: 'flat.driveable_surface',
    Surface.ISLAND: 'flat.other',
    Surface.BUILDING: 'static.manmade',
    Surface.FENCE: 'static.manmade',
    Surface.VEGETATION: 'static.vegetation',
    Surface.TRUNK: 'static.vegetation',
    Surface.POLE: 'static.manmade',
    Surface.SIGN: 'static.manmade',
    Surface.FIXTURE: 'static.manmade',
}
_OF_SURFACE = np.array([CATEGORY_INDEX[SURFACE_CATEGORIES.get(surface, 'noise')] for surface in Surface], np.int64)


def panoptic_labels(sweep: Sweep, agents: list[Agent]) -> npt.NDArray[np.uint16]:
    """Returns 1000 * id + instance of each point of a sweep, (N,); surfaces of no object have the instance 0.

    Instances count from 1 within a category, and are the same in all sweeps of a scene.
    """
    of_agent = np.zeros(len(agents) + 1, np.int64)
    count = dict.fromkeys(CATEGORY_INDEX.values(), 0)
    for k, agent in enumerate(agents):
        index = CATEGORY_INDEX[CATEGORIES['worker' if agent.body.worker else agent.name]]
        count[index] += 1
        of_agent[k] = 1000 * index + min(count[index], 999)
    # Surfaces of no object have the owner -1, which reads the last entry.
    labels = np.where(sweep.owner >= 0, of_agent[sweep.owner], 1000 * _OF_SURFACE[sweep.surface])
    return labels.astype(np.uint16)
