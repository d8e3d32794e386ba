"""Which windows of the ground a picture shows: fixed squares in the nuScenes frame, else where something is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception3d.visualization.bev import BevView, BevWindow

NUSCENES_FORWARD = (0, 1)

# The own car and a margin around it are always seen.
_BEHIND_M, _BESIDE_M, _LEAST_AHEAD_M = 4.0, 8.0, 15.0
# A near view reaches half as far as the whole one, but not less than this.
_LEAST_REACH_M = 12.0
# Points farther away than this are too few to be looked at, and a box that far is wrong or far out of the view.
_FAR_POINT_M, _FAR_BOX_M = 80.0, 120.0
# A near view is worth its place if it is at least so much larger. No window is narrower relative to its height.
_LEAST_ZOOM, _LEAST_ASPECT = 1.4, 0.6


@dataclass(frozen=True)
class Ground:
    """How a data set's LiDAR frame lies.

    Attributes:
        forward: the axis along which the vehicle drives, (1, 0) for x, (0, 1) for y, and so on. In the nuScenes frame
            (y) the windows are fixed squares; in others they are cropped to where points and boxes are.
        only_ahead: nothing is known of what is behind the vehicle, as in KITTI, where one camera looks ahead.
    """

    forward: tuple[int, int] = NUSCENES_FORWARD
    only_ahead: bool = False


@dataclass(frozen=True)
class Panel:
    """One window, the words above it, whether scores are written into it, and the size of its points in pixels."""

    window: BevWindow
    caption: str
    with_scores: bool
    point_px: int = 0


def square_panels(half_ranges_m: Sequence[float], size_px: int) -> list[Panel]:
    """Returns square windows in the nuScenes frame; the last and nearest one gets the scores."""
    return [
        Panel(
            BevView(half_range_m, size_px),
            f"bird's eye view, {half_range_m:g} m to each side, forward is up",
            half_range_m == half_ranges_m[-1],
        )
        for half_range_m in half_ranges_m
    ]


def fitted_panels(
    ground: Ground,
    points: np.ndarray | None,
    corners: np.ndarray,
    width_px: int,
    height_px: int,
    gap_px: int,
    range_m: float,
) -> list[Panel]:
    """Returns a window around all points and boxes, and a near one beside it where there is room and it shows more.

    Args:
        ground: the LiDAR frame.
        points: (N, 2 or more) in metres, or None.
        corners: (M, 8, 3) of the boxes, in metres.
        width_px: that the windows with the gap between them take together.
        height_px: of every window.
        gap_px: between two windows.
        range_m: shown where there are neither points nor boxes.
    """
    right_m, ahead_m = extents(ground, points, corners, range_m)
    scale = min(height_px / (ahead_m[1] - ahead_m[0]), width_px / (right_m[1] - right_m[0]))
    least_px = round(_LEAST_ASPECT * height_px)
    whole_px = min(max(round((right_m[1] - right_m[0]) * scale), least_px), width_px)
    near_px = width_px - whole_px - gap_px
    reach_m = max(ahead_m[1] / 2, _LEAST_REACH_M)
    near_m = (-_BEHIND_M if ground.only_ahead else -reach_m, reach_m)
    near_scale = height_px / (near_m[1] - near_m[0])
    if near_px < least_px or near_scale < _LEAST_ZOOM * scale:
        windows = [_window(ground, right_m, ahead_m, scale, width_px, height_px)]
    else:
        whole = _window(ground, right_m, ahead_m, scale, whole_px, height_px)
        # The own car stays in the middle half.
        most = near_px / near_scale / 4
        middle = min(max(sum(right_m) / 2, -most), most)
        windows = [whole, _window(ground, (middle, middle), near_m, near_scale, near_px, height_px)]
    return [Panel(window, _caption(window), True, point_size(window, points)) for window in windows]


def covering_window(ground: Ground, ranges_m: Sequence[Sequence[float]], width_px: int) -> BevWindow:
    """Returns the window around rectangles (x0, y0, x1, y1) of the LiDAR frame, in metres, and around the own car."""
    turn = BevWindow((-1, 1), (-1, 1), 2, ground.forward).to_map
    edges = turn(np.asarray(ranges_m, np.float64).reshape(-1, 2))
    low, high = edges.min(axis=0), edges.max(axis=0)
    ahead_m = (min(float(low[1]), -_BEHIND_M), max(float(high[1]), _BEHIND_M))
    return BevWindow((float(low[0]), float(high[0])), ahead_m, width_px, ground.forward)


def extents(
    ground: Ground, points: np.ndarray | None, corners: np.ndarray, range_m: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns borders (left, right) and (behind, ahead) in metres around boxes, own car and almost all points.

    They are rounded to 5 m, so that the frames of one drive look alike.
    """
    turn = BevWindow((-1, 1), (-1, 1), 2, ground.forward).to_map
    low, high = np.array([-_BESIDE_M, -_BEHIND_M]), np.array([_BESIDE_M, _LEAST_AHEAD_M])
    places = np.zeros((0, 2)) if points is None else turn(np.asarray(points)[:, :2])
    places = places[np.isfinite(places).all(axis=1) & (np.abs(places) < _FAR_POINT_M).all(axis=1)]
    places = places[places[:, 1] > 0] if ground.only_ahead else places
    if len(places):
        low = np.minimum(low, np.quantile(places, 0.005, axis=0))
        high = np.maximum(high, np.quantile(places, 0.995, axis=0))
    edges = turn(corners[..., :2].reshape(-1, 2))
    edges = edges[(np.abs(edges) < _FAR_BOX_M).all(axis=1)]
    if len(edges):
        low, high = np.minimum(low, edges.min(axis=0) - 1), np.maximum(high, edges.max(axis=0) + 1)
    if not len(places) and not len(edges):
        low = np.array([-range_m, -_BEHIND_M if ground.only_ahead else -range_m])
        high = np.array([range_m, range_m])
    low, high = np.floor(low / 5 + 0.01) * 5, np.ceil(high / 5 - 0.01) * 5
    behind = low[1] if low[1] < -5 else -_BEHIND_M
    return (float(low[0]), float(high[0])), (float(behind), float(high[1]))


def point_size(window: BevWindow, points: np.ndarray | None) -> int:
    """Returns the side of a point in pixels: 3, 2 or 1, so that points cover an eighth of the window at most."""
    if points is None or not len(points):
        return 1
    inside = int(window.contains(np.asarray(points)[:, :2]).sum())
    room = window.width_px * window.height_px / 8
    # A point is never drawn larger than a tenth of a metre or so, beyond the one pixel that it takes.
    largest = max(1, min(3, round(window.px_per_m / 8)))
    return next((size for size in range(largest, 1, -1) if inside * size**2 <= room), 1)


def _window(
    ground: Ground,
    right_m: tuple[float, float],
    ahead_m: tuple[float, float],
    scale: float,
    width_px: int,
    height_px: int,
) -> BevWindow:
    """Returns the window of exactly this size and scale: what is left over goes to both sides, or ahead."""
    middle, half = sum(right_m) / 2, width_px / scale / 2
    right_m, ahead_m = (middle - half, middle + half), (ahead_m[0], ahead_m[0] + height_px / scale)
    return BevWindow(right_m, ahead_m, width_px, ground.forward)


def _caption(window: BevWindow) -> str:
    return f"bird's eye view, {math.floor(window.ahead_m[1] + 0.01):d} m ahead, forward is up"
