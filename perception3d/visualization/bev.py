"""The ground of a BEV picture: range rings, points shaded by height, the ego vehicle; forward is up, right is right."""

from __future__ import annotations

import numpy as np

from perception3d.structures.views import BevView
from perception3d.visualization.canvas import circle, fill, polyline, stroke, text

BACKGROUND = (30, 24, 20)
_RING = (78, 68, 60)
_RING_TEXT = (150, 140, 130)
_EGO = (240, 240, 240)
_EGO_OUTLINE_M = np.array([[-0.9, -2.0], [-0.9, 1.3], [0.0, 2.3], [0.9, 1.3], [0.9, -2.0]])


def draw_background(view: BevView, points: np.ndarray | None, scale: float = 1.0, point_px: int = 0) -> np.ndarray:
    """Returns a new (H, W, 3) BGR panel with range rings, points shaded by height and the ego vehicle.

    Args:
        view: which part of the ground.
        points: (N, 3 or more) x, y, z in metres, or None. Non-finite points are left out.
        scale: size of text and lines; 1.0 suits a picture 1920 pixels wide.
        point_px: side of the square that a point takes; 0 takes 1 pixel in wide views and 2 in near ones.
    """
    panel = np.full((view.height_px, view.width_px, 3), BACKGROUND, np.uint8)
    _draw_rings(panel, view, scale)
    # Under the points, of which some lie on the vehicle's own roof; its outline over them, where they are dense.
    outline = view.map_to_pixels(_EGO_OUTLINE_M)
    fill(panel, [outline], [_EGO], 0.85)
    if points is not None and len(points):
        _draw_points(panel, view, np.asarray(points)[:, :3], point_px or (2 if view.px_per_m > 14 else 1))
    stroke(panel, polyline(outline), _EGO, 1)
    return panel


def shade_by_height(z_m: np.ndarray) -> np.ndarray:
    """Returns greys (N, 3) uint8 BGR of points by their height above the LiDAR (N,): bright at 2.5 m and above."""
    level = np.clip((z_m + 2.5) / 5.0, 0, 1)[:, None]
    return ((1 - level) * [96, 84, 76] + level * [205, 198, 190]).astype(np.uint8)


def _draw_rings(panel: np.ndarray, view: BevView, scale: float) -> None:
    (left, right), (behind, ahead) = view.right_m, view.ahead_m
    half = max(right - left, ahead - behind) / 2
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1e9) if half / s <= 5.5)
    origin = view.map_to_pixels(np.zeros(2))
    stroke(panel, view.map_to_pixels(np.array([[[left, 0], [right, 0]], [[0, behind], [0, ahead]]])), _RING, 1)
    height = 8.0 * scale
    farthest = np.hypot(max(-left, right), max(-behind, ahead))
    for radius in np.arange(step, 1.005 * farthest, step):
        circle(panel, origin, radius * view.px_per_m, _RING, 1)
        if radius <= ahead:
            at = view.map_to_pixels(np.array([0, radius]))
            text(panel, f'{radius:g} m', (at[0] + 2, at[1] + 1), _RING_TEXT, height)


def _draw_points(panel: np.ndarray, view: BevView, points: np.ndarray, size: int) -> None:
    points = points[np.isfinite(points).all(axis=1)]
    points = points[view.contains(points[:, :2])]
    # Highest last, so that what sticks out of the ground is what one sees.
    points = points[np.argsort(points[:, 2], kind='stable')]
    last = np.array([view.width_px, view.height_px]) - 1
    pixels = np.rint(view.to_pixels(points[:, :2])).astype(np.int64).clip(0, last)
    shade = shade_by_height(points[:, 2])
    for row in range(size):
        for column in range(size):
            at = np.minimum(pixels + [column, row], last)
            panel[at[:, 1], at[:, 0]] = shade
