"""Solids as one table: kernels read a row faster from one array than from seven."""

from __future__ import annotations

import numpy as np

from perception3d.simulation.render.primitives import Primitives

CENTER, RADIUS, VELOCITY, AXES, HALF, TAPER, COLOR, KIND, MATERIAL = 0, 3, 4, 6, 15, 18, 21, 24, 25
"""First columns of the table; axes row by row; radius of the bounding sphere in metres; velocity in x and y in m/s."""


def solid_table(solids: Primitives) -> np.ndarray:
    """Returns the table (N, 26) float32 that the shading kernel reads, without motion and radius."""
    motion = np.zeros((len(solids), 3), np.float32)
    parts = [solids.center, motion, solids.axes.reshape(-1, 9), solids.half, solids.taper, solids.color]
    return np.ascontiguousarray(np.column_stack([*parts, solids.kind, solids.material]), np.float32)


def moving_table(solids: Primitives, velocity: np.ndarray) -> np.ndarray:
    """Returns the table (N, 26) float64 of solids with their velocities (N, 2) and bounding spheres, for a LiDAR."""
    table = solid_table(solids).astype(np.float64)
    table[:, RADIUS] = np.linalg.norm(table[:, HALF : HALF + 3], axis=1)
    table[:, VELOCITY : VELOCITY + 2] = velocity
    return table
