"""Materials: appearance in a camera image and reflectivity for a LiDAR."""

from __future__ import annotations

import numpy as np

MATTE, PAINT, GLASS, RUBBER, CABIN, BUS_BODY, BUILDING, FOLIAGE = 0, 1, 2, 3, 4, 5, 6, 7
HEAD_LAMP, TAIL_LAMP, CLOTH, CONE, BARRIER, METAL, CARGO, BARK, PLATE = 8, 9, 10, 11, 12, 13, 14, 15, 16

REFLECTIVITY = np.array(
    [0.15, 0.20, 0.04, 0.03, 0.12, 0.18, 0.16, 0.12, 0.35, 0.45, 0.14, 0.42, 0.40, 0.30, 0.22, 0.10, 0.95],
    np.float32,
)
"""Share of a laser pulse that comes straight back, by material. Plausible values of our own; plates are reflectors."""
