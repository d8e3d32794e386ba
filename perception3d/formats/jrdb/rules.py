"""Who of JRDB's people counts in its 3D benchmark; no torch. Source: jrdb_toolkit, `detection_eval`."""

from __future__ import annotations

import math

CLASSES = ('person',)
RANGE_M = 25.0
"""People count up to this distance of the box's middle from the robot, in the bird's-eye view."""
MIN_POINTS = 10
"""People in whose boxes fewer LiDAR points lie do not count."""
OCCLUSIONS = ('Fully_visible', 'Mostly_visible', 'Severely_occluded', 'Fully_occluded')
"""Occlusion 0 to 3 of the text files, as the annotations of the stitched image name them."""
FRAME_INTERVAL_S = 1 / 15
"""Time between annotated frames: they have 15 Hz, as we remember it; `timestamps/` are not read."""
VALIDATION = (
    'clark-center-2019-02-28_1', 'gates-ai-lab-2019-02-08_0', 'huang-2-2019-01-25_0', 'meyer-green-2019-03-16_0',
    'nvidia-aud-2019-04-18_0', 'tressider-2019-03-16_1', 'tressider-2019-04-26_2',
)  # fmt: skip
"""The sequences for validation that the toolkit suggests."""

NO_SIZE = 'no size'
FEW_POINTS = f'fewer than {MIN_POINTS} points'
FAR = f'further than {RANGE_M:g} m'


def ignore_reason(x: float, y: float, size_m: tuple[float, float, float], num_points: int) -> str | None:
    """Returns why a person is ignored, None for one that counts; num_points -1: not known, which counts."""
    if min(size_m) <= 0:
        return NO_SIZE
    if math.hypot(x, y) > RANGE_M:
        return FAR
    return FEW_POINTS if 0 <= num_points < MIN_POINTS else None
