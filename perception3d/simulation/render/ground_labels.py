"""What every pixel of an image shows of the ground: road, marking, curb, sidewalk, terrain."""

from __future__ import annotations

import numpy as np
from numba import prange

from perception3d.simulation.render.ground import ground_surface
from perception3d.simulation.render.kernel import kernel
from perception3d.simulation.render.raster import GROUND


@kernel(parallel=True)
def label_ground(depth, ids, rays, roads, decals, out):
    """Fills out (H, W) uint8 with the `Surface` of every pixel of the ground; other pixels stay as they are.

    rays (12,): origin, then the matrix that takes (u, v, 1) to the ray of depth 1 in the world, row by row.
    """
    for v in prange(depth.shape[0]):
        for u in range(depth.shape[1]):
            if ids[v, u] == GROUND:
                t = depth[v, u]
                x = rays[0] + t * (rays[3] * u + rays[4] * v + rays[5])
                y = rays[1] + t * (rays[6] * u + rays[7] * v + rays[8])
                out[v, u] = np.uint8(ground_surface(roads, decals, x, y))
