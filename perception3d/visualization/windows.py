"""Views of parts of the ground (squares in the nuScenes frame, else where something is), of ranges, and of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from perception3d.geometry.range_image import RangeImage
from perception3d.structures.frame import LidarAxes, SensorFrame
from perception3d.structures.views import BevView, CameraView, RangeView, square_view

# The ego vehicle and a margin around it are always seen.
_BEHIND_M, _LEAST_SIDE_M, _LEAST_AHEAD_M = 4.0, 8.0, 15.0
# A near view reaches half as far as the whole one, but not less than this.
_LEAST_REACH_M = 12.0
# Points farther away than this are too few to be looked at, and a box that far is wrong or far out of the view.
_FAR_POINT_M, _FAR_BOX_M = 80.0, 120.0
# A near view is drawn if its scale is larger by at least this factor. No view is narrower relative to its height.
_LEAST_ZOOM, _LEAST_ASPECT = 1.4, 0.6


@dataclass(frozen=True)
class Panel:
    """One BEV view, the words above it, and the size of its points in pixels (0: by its scale)."""

    view: BevView
    caption: str
    point_px: int = 0


def square_panels(half_ranges_m: Sequence[float], size_px: int) -> list[Panel]:
    """Returns square views in the nuScenes frame; the last and nearest one gets the scores."""
    return [
        Panel(
            replace(square_view(half_range_m, size_px), with_texts=half_range_m == half_ranges_m[-1]),
            f"bird's eye view, {half_range_m:g} m to each side, forward is up",
        )
        for half_range_m in half_ranges_m
    ]


def fitted_panels(
    axes: LidarAxes,
    points: np.ndarray | None,
    footprints: np.ndarray,
    width_px: int,
    height_px: int,
    gap_px: int,
    range_m: float,
) -> list[Panel]:
    """Returns a view around all points and objects, and a near one next to it where there is room and it shows more.

    Args:
        axes: those of the LiDAR frame.
        points: (N, 2 or more) in metres, or None.
        footprints: (M, 2) in metres, corners of objects.
        width_px: that the views with the gap between them take together.
        height_px: of every view.
        gap_px: between two views.
        range_m: shown where there are neither points nor objects.
    """
    right_m, ahead_m = extents(axes, points, footprints, range_m)
    scale = min(height_px / (ahead_m[1] - ahead_m[0]), width_px / (right_m[1] - right_m[0]))
    least_px = round(_LEAST_ASPECT * height_px)
    whole_px = min(max(round((right_m[1] - right_m[0]) * scale), least_px), width_px)
    near_px = width_px - whole_px - gap_px
    reach_m = max(ahead_m[1] / 2, _LEAST_REACH_M)
    near_m = (-_BEHIND_M if axes.only_ahead else -reach_m, reach_m)
    near_scale = height_px / (near_m[1] - near_m[0])
    if near_px < least_px or near_scale < _LEAST_ZOOM * scale:
        views = [_view(axes, right_m, ahead_m, scale, width_px, height_px)]
    else:
        whole = _view(axes, right_m, ahead_m, scale, whole_px, height_px)
        # The ego vehicle stays in the middle half.
        most = near_px / near_scale / 4
        middle = min(max(sum(right_m) / 2, -most), most)
        views = [whole, _view(axes, (middle, middle), near_m, near_scale, near_px, height_px)]
    return [Panel(view, _caption(view), point_size(view, points)) for view in views]


def covering_view(axes: LidarAxes, ranges_m: Sequence[Sequence[float]], width_px: int) -> BevView:
    """Returns the view around rectangles (x0, y0, x1, y1) of the LiDAR frame, in metres, and the ego vehicle."""
    to_map = BevView((-1, 1), (-1, 1), 2, axes.forward).to_map
    edges = to_map(np.asarray(ranges_m, np.float64).reshape(-1, 2))
    low, high = edges.min(axis=0), edges.max(axis=0)
    ahead_m = (min(float(low[1]), -_BEHIND_M), max(float(high[1]), _BEHIND_M))
    return BevView((float(low[0]), float(high[0])), ahead_m, width_px, axes.forward)


def range_view(axes: LidarAxes, points: np.ndarray | None, width_px: int, height_px: int) -> tuple[RangeView, str]:
    """Returns the range view of all directions and of the angles of almost all points, and words about it.

    Angles are whole degrees; those of SemanticKITTI's sensor where there are no points.
    """
    up_deg, down_deg = 3, -25
    xyz = np.zeros((0, 3)) if points is None else np.asarray(points, np.float64)[:, :3]
    xyz = xyz[np.isfinite(xyz).all(axis=1)]
    if len(xyz):
        angles = np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))
        low, high = np.quantile(angles, (0.002, 0.998))
        up_deg, down_deg = math.ceil(high + 0.5), math.floor(low - 0.5)
    image = RangeImage((height_px, width_px), min(up_deg, 90), max(down_deg, -90), axes.forward)
    words = f'range view from {image.up_deg:+d} to {image.down_deg:+d} degrees, straight ahead in the middle'
    return RangeView(image, max(1, round(height_px / 64))), words


def extents(
    axes: LidarAxes, points: np.ndarray | None, footprints: np.ndarray, range_m: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns borders (left, right) and (behind, ahead) in metres around objects, ego vehicle and almost all points.

    They are rounded to 5 m, so that the frames of one scene have the same views.
    """
    to_map = BevView((-1, 1), (-1, 1), 2, axes.forward).to_map
    low, high = np.array([-_LEAST_SIDE_M, -_BEHIND_M]), np.array([_LEAST_SIDE_M, _LEAST_AHEAD_M])
    xy = np.zeros((0, 2)) if points is None else to_map(np.asarray(points)[:, :2])
    xy = xy[np.isfinite(xy).all(axis=1) & (np.abs(xy) < _FAR_POINT_M).all(axis=1)]
    xy = xy[xy[:, 1] > 0] if axes.only_ahead else xy
    if len(xy):
        low = np.minimum(low, np.quantile(xy, 0.005, axis=0))
        high = np.maximum(high, np.quantile(xy, 0.995, axis=0))
    edges = to_map(footprints)
    edges = edges[(np.abs(edges) < _FAR_BOX_M).all(axis=1)]
    if len(edges):
        low, high = np.minimum(low, edges.min(axis=0) - 1), np.maximum(high, edges.max(axis=0) + 1)
    if not len(xy) and not len(edges):
        low = np.array([-range_m, -_BEHIND_M if axes.only_ahead else -range_m])
        high = np.array([range_m, range_m])
    low, high = np.floor(low / 5 + 0.01) * 5, np.ceil(high / 5 - 0.01) * 5
    behind = low[1] if low[1] < -5 else -_BEHIND_M
    return (float(low[0]), float(high[0])), (float(behind), float(high[1]))


def point_size(view: BevView, points: np.ndarray | None) -> int:
    """Returns the side of a point in pixels: 3, 2 or 1, so that points cover an eighth of the view at most."""
    if points is None or not len(points):
        return 1
    inside = int(view.contains(np.asarray(points)[:, :2]).sum())
    room = view.width_px * view.height_px / 8
    # A point is never drawn larger than a tenth of a metre or so, beyond the one pixel that it takes.
    largest = max(1, min(3, round(view.px_per_m / 8)))
    return next((size for size in range(largest, 1, -1) if inside * size**2 <= room), 1)


def _view(
    axes: LidarAxes,
    right_m: tuple[float, float],
    ahead_m: tuple[float, float],
    scale: float,
    width_px: int,
    height_px: int,
) -> BevView:
    """Returns the view of exactly this size and scale: what is left over goes to both sides, or ahead."""
    middle, half = sum(right_m) / 2, width_px / scale / 2
    right_m, ahead_m = (middle - half, middle + half), (ahead_m[0], ahead_m[0] + height_px / scale)
    return BevView(right_m, ahead_m, width_px, axes.forward)


def _caption(view: BevView) -> str:
    return f"bird's eye view, {math.floor(view.ahead_m[1] + 0.01):d} m ahead, forward is up"


def camera_view(
    frame: SensorFrame, name: str, canvas: np.ndarray, factor: float, text_scale: float = 1.0
) -> CameraView:
    """Returns the view of an image of a frame on a canvas, which is the image `factor` times as large."""
    # Matrices count pixels from the corner of the image, the canvas from the centre of its first pixel.
    scaling = np.array([[factor, 0, -0.5], [0, factor, -0.5], [0, 0, 1]])
    matrix, image = frame.img_from_lidar.get(name), frame.images[name]
    return CameraView(
        name,
        None if matrix is None else scaling @ np.asarray(matrix, np.float64)[:3],
        canvas.shape[1],
        canvas.shape[0],
        scaling @ np.asarray(frame.img_from_stored.get(name, np.eye(3)), np.float64),
        text_scale,
        frame.stored_wh.get(name, (image.shape[1], image.shape[0])),
    )
