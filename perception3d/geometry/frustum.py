"""What a camera sees of lines and polygons: homogeneous pixels, cut at the near plane and at the image border.

The cut comes before the division by depth, so that nothing behind a camera is mirrored into its image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NEAR_M = 0.1
"""Depth of the near plane: what is closer to a camera, or behind it, is cut off."""


def to_homogeneous(points: npt.NDArray[Any], img_from_lidar: npt.NDArray[Any]) -> Floats:
    """Maps points (..., 3) in metres to (..., 3) homogeneous pixels (u*d, v*d, d) with d the depth in metres."""
    matrix = np.asarray(img_from_lidar, np.float64)[:3]
    pixels: Floats = np.asarray(points, np.float64) @ matrix[:, :3].T + matrix[:, 3]
    return pixels


def frustum(width: int, height: int, near_m: float = NEAR_M, margin_px: float = 4.0) -> Floats:
    """Returns the half spaces (5, 4) of an image: a homogeneous pixel h is inside where planes @ (h, 1) >= 0."""
    right, bottom = width - 1 + margin_px, height - 1 + margin_px
    return np.array(
        [[0, 0, 1, -near_m], [1, 0, margin_px, 0], [0, 1, margin_px, 0], [-1, 0, right, 0], [0, -1, bottom, 0]],
        np.float64,
    )


def near_plane_crossings(start: Floats, end: Floats, near_m: float = NEAR_M) -> tuple[Floats, Floats]:
    """Cuts segments at the near plane.

    Args:
        start: (..., 3) first ends; the last coordinate is the depth in metres.
        end: (..., 3) second ends.
        near_m: depth of the plane.

    Returns:
        (..., 3) where a segment meets the plane, without meaning for one that does not; a mask (...) of those that do.
    """
    first, second = start[..., 2], end[..., 2]
    crosses = (first >= near_m) != (second >= near_m)
    share = (near_m - first) / np.where(crosses, second - first, 1.0)
    return start + share[..., None] * (end - start), crosses


def clip_segments(segments: Floats, planes: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Cuts segments in homogeneous pixels.

    Args:
        segments: (N, 2, 3) homogeneous end points.
        planes: (P, 4) half spaces, see `frustum`.

    Returns:
        The cut segments (M, 2, 2) in pixels and the indices (M,) of those that are left.
    """
    start, end = segments[:, 0], segments[:, 1]
    enter, leave = np.zeros(len(segments)), np.ones(len(segments))
    for plane in planes:
        at_start, at_end = start @ plane[:3] + plane[3], end @ plane[:3] + plane[3]
        with np.errstate(divide='ignore', invalid='ignore'):
            crossing = at_start / (at_start - at_end)
        enter = np.where((at_start < 0) & (at_end >= 0), np.maximum(enter, crossing), enter)
        leave = np.where((at_start >= 0) & (at_end < 0), np.minimum(leave, crossing), leave)
        leave = np.where((at_start < 0) & (at_end < 0), -1.0, leave)
    kept = np.flatnonzero(enter < leave)
    start, step = start[kept], (end - start)[kept]
    cut = np.stack([start + enter[kept, None] * step, start + leave[kept, None] * step], axis=1)
    return cut[..., :2] / cut[..., 2:], kept


def clip_polygon(polygon: Floats, planes: Floats) -> Floats:
    """Cuts a convex polygon (N, 3) in homogeneous pixels (Sutherland-Hodgman); returns (M, 2) pixels, M may be 0."""
    for plane in planes:
        if not len(polygon):
            break
        value = polygon @ plane[:3] + plane[3]
        following, value_next = np.roll(polygon, -1, axis=0), np.roll(value, -1)
        pieces = []
        for here, there, a, b in zip(polygon, following, value, value_next, strict=True):
            if a >= 0:
                pieces.append(here)
            if (a >= 0) != (b >= 0):
                pieces.append(here + a / (a - b) * (there - here))
        polygon = np.array(pieces).reshape(-1, 3)
    pixels: Floats = polygon[:, :2] / polygon[:, 2:]
    return pixels
