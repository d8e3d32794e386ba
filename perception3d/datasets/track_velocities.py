"""Velocities of annotated objects from their places in the frames of a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_GAP_S = 1.5
"""Frames further apart say nothing of a velocity, as in nuScenes' tool."""


def track_velocities(
    times_s: Sequence[float], places: Sequence[Mapping[int, Sequence[float]]]
) -> list[dict[int, npt.NDArray[Any]]]:
    """Returns for each frame track id -> velocity (vx, vy) in m/s, as if the sensor stood still.

    Central differences of the next and the previous frame with the same track, as nuScenes has them; one-sided at the
    ends of a track; NaN where a track is in one frame alone. Frames more than MAX_GAP_S away do not count.

    Args:
        times_s: time of each frame, seconds, growing.
        places: of each frame track id -> x, y in metres.
    """
    found = []
    for k, frame in enumerate(places):
        around = range(max(0, k - 1), min(len(times_s), k + 2))
        near = [j for j in around if abs(times_s[j] - times_s[k]) <= MAX_GAP_S]
        velocities = {}
        for track in frame:
            at = [j for j in near if track in places[j]]
            velocities[track] = np.full(2, np.nan)
            if len(at) > 1:
                step = np.subtract(places[at[-1]][track], places[at[0]][track])
                velocities[track] = step / (times_s[at[-1]] - times_s[at[0]])
        found.append(velocities)
    return found
