"""What of STCrowd is labelled and counts, and what of it is ignored; no torch.

Source: the site of the data set (domain of the labels), its converter (sitting people), see `docs/crowds.md`.
"""

from __future__ import annotations

import math

CLASSES = ('person',)
RANGE_M = 35.0
"""People are labelled up to this distance from the LiDAR, in the bird's-eye view."""
SITTING_HEIGHT_M = 1.2
"""People in lower boxes sit; the converter of the data set leaves them out."""
MIN_POINTS = 15
"""People with fewer LiDAR points are not labelled, by the site."""
FRAME_INTERVAL_S = 0.4
"""Time between annotated frames."""
OCCLUSIONS = (0, 1, 2)
"""Levels of occlusion; more is worse. Minor, moderate and severe is our reading: the site does not name them."""

NO_SIZE = 'no size'
OTHER = 'of another category'
SITTING = f'lower than {SITTING_HEIGHT_M} m (sitting)'
OUTSIDE = f'outside the labelled sector of +-90 degrees and {RANGE_M:g} m'
FEW_POINTS = f'fewer than {MIN_POINTS} points'


def in_sector(x: float, y: float) -> bool:
    """Whether a place (metres, LiDAR frame) is in the labelled sector: up to 90 degrees from the x axis, and RANGE_M.

    The border belongs to it.
    """
    return math.hypot(x, y) <= RANGE_M and x >= 0.0


def ignore_reason(
    center_m: tuple[float, float, float],
    size_m: tuple[float, float, float],
    num_points: int | None = None,
    is_person: bool = True,
) -> str | None:
    """Returns why a person is ignored: neither object nor background, neither hit nor miss; None for one that counts.

    Args:
        center_m: middle of the box, metres in the LiDAR frame.
        size_m: length, width and height.
        num_points: LiDAR points in the box; None where they are not known.
        is_person: what `files.Person` says.
    """
    if min(size_m) <= 0:
        return NO_SIZE
    if not is_person:
        return OTHER
    if size_m[2] < SITTING_HEIGHT_M:
        return SITTING
    if not in_sector(center_m[0], center_m[1]):
        return OUTSIDE
    if num_points is not None and num_points < MIN_POINTS:
        return FEW_POINTS
    return None
