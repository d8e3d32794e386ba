"""How many rays of a LiDAR would hit each agent if nothing else were there: what its visible share is measured by."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from perception3d.simulation.render.hits import hit
from perception3d.simulation.render.kernel import kernel
from perception3d.simulation.render.lidar import LidarModel, beam_direction, into_unit, list_near
from perception3d.simulation.render.primitives import Primitives
from perception3d.simulation.render.table import CENTER, KIND, RADIUS, TAPER, VELOCITY, moving_table


@kernel()
def _count_column(elevations, column, pose, solids, owners, counts):
    """Adds the rays of one column that hit a solid of each owner to `counts` (A,); solids of an owner are in a row."""
    near, rays = np.empty(len(solids), np.int32), np.empty((len(elevations), 3))
    last = np.full(len(elevations), -1)
    azimuth, shift_s = column
    for k in range(len(elevations)):
        rays[k, 0], rays[k, 1], rays[k, 2] = beam_direction(pose, elevations[k], azimuth)
    for n in range(list_near(solids, pose, azimuth, shift_s, 1e6, near)):
        i = near[n]
        wx = pose[0, 3] - solids[i, CENTER] - solids[i, VELOCITY] * shift_s
        wy = pose[1, 3] - solids[i, CENTER + 1] - solids[i, VELOCITY + 1] * shift_s
        wz = pose[2, 3] - solids[i, CENTER + 2]
        origin = into_unit(solids, i, wx, wy, wz)
        taper = (solids[i, TAPER], solids[i, TAPER + 1], solids[i, TAPER + 2])
        apart = math.sqrt(wx * wx + wy * wy)
        # As in `lidar`: a beam far above or below the bounding sphere need not be tested.
        height, spread = math.atan2(-wz, apart), 9.0
        if apart > solids[i, RADIUS]:
            spread = 0.06 + 1.6 * solids[i, RADIUS] / apart
        for k in range(len(elevations)):
            if last[k] == owners[i] or abs(height - elevations[k]) > spread:
                continue
            ray = into_unit(solids, i, rays[k, 0], rays[k, 1], rays[k, 2])
            if 0.05 < hit(int(solids[i, KIND]), origin, ray, taper) < 1e6:
                counts[owners[i]] += 1
                last[k] = owners[i]


@kernel(parallel=True)
def _count_rays(elevations, columns, poses, solids, owners, counts):
    """Fills counts (C, A): the rays of each column that hit each owner."""
    for c in prange(len(columns)):
        _count_column(elevations, columns[c], poses[c], solids, owners, counts[c])


def rays_alone(
    solids: Primitives, velocity: np.ndarray, lidar: LidarModel, world_from_lidar: np.ndarray, agents: int
) -> np.ndarray:
    """Returns how many rays (agents,) of a revolution hit each agent where neither others nor scenery hide it.

    Arguments as in `lidar.scan`; the solids of each agent are one after the other.
    """
    owned = solids.owner >= 0
    table, owners = moving_table(solids, velocity)[owned], np.ascontiguousarray(solids.owner[owned])
    columns = np.column_stack([lidar.azimuths_rad(), lidar.column_offsets_s()])
    counts = np.zeros((len(columns), agents), np.int32)
    _count_rays(np.array(lidar.elevations_rad), columns, np.ascontiguousarray(world_from_lidar), table, owners, counts)
    return counts.sum(0)
