"""A bird's eye view: forward is up, right is right, as one looks at a map with the vehicle driving upwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception3d.visualization.canvas import arrow, circle, fill, polyline, stroke, text

BACKGROUND = (30, 24, 20)
_RING = (78, 68, 60)
_RING_TEXT = (150, 140, 130)
_EGO = (240, 240, 240)

# Speeds below this are noise of a standing object and would litter the picture with stubs.
MIN_SPEED_MPS = 0.3


@dataclass(frozen=True)
class BevView:
    """A square window of the ground plane: `half_range_m` to each side of the sensor, `size_px` pixels wide.

    The frame is the nuScenes LiDAR frame: x to the right, y forward, metres.
    """

    half_range_m: float
    size_px: int

    @property
    def px_per_m(self) -> float:
        """Pixels that one metre takes."""
        return self.size_px / (2 * self.half_range_m)

    def to_pixels(self, xy: np.ndarray) -> np.ndarray:
        """Maps (..., 2) metres to (..., 2) pixels (u right, v down); whole numbers are pixel centres."""
        xy = np.asarray(xy, np.float64)
        u = (xy[..., 0] + self.half_range_m) * self.px_per_m - 0.5
        v = (self.half_range_m - xy[..., 1]) * self.px_per_m - 0.5
        return np.stack([u, v], axis=-1)


def draw_ground(view: BevView, points: np.ndarray | None, scale: float = 1.0) -> np.ndarray:
    """Returns a new (S, S, 3) BGR panel with range rings, points shaded by height and the ego vehicle.

    Args:
        view: the window.
        points: (N, 3 or more) x, y, z in metres, or None. Non-finite points are left out.
        scale: size of text and lines; 1.0 suits a picture 1920 pixels wide.
    """
    panel = np.full((view.size_px, view.size_px, 3), BACKGROUND, np.uint8)
    _draw_rings(panel, view, scale)
    if points is not None and len(points):
        _draw_points(panel, view, np.asarray(points)[:, :3])
    _draw_ego(panel, view)
    return panel


def draw_bev_boxes(
    panel: np.ndarray,
    view: BevView,
    corners: np.ndarray,
    colors: Sequence[Sequence[int]],
    thickness: int = 1,
    dash_px: tuple[float, float] | None = None,
    fill_opacity: float = 0.0,
    velocities: np.ndarray | None = None,
) -> None:
    """Draws the footprints of boxes in place, with a tick through the front and an arrow of one second of motion.

    Args:
        panel: picture of `draw_ground`.
        view: the window.
        corners: (N, 8, 3) in mmdet3d's order (0, 3, 7, 4 is the bottom; 4 and 7 are in front), metres.
        colors: N colours (blue, green, red).
        thickness: of lines, in pixels.
        dash_px: dash and gap, None for solid lines.
        fill_opacity: tint of the footprint.
        velocities: (N, 2) in m/s along x and y; NaN (unknown) draws no arrow.
    """
    if not len(corners):
        return
    footprint = view.to_pixels(corners[:, [0, 3, 7, 4], :2])
    fill(panel, list(footprint), colors, fill_opacity)
    front, center = footprint[:, 2:4].mean(axis=1), footprint.mean(axis=1)
    for index, color in enumerate(colors):
        stroke(panel, polyline(footprint[index]), color, thickness, dash_px)
        tick = np.stack([center[index], center[index] + 1.35 * (front[index] - center[index])])
        stroke(panel, tick[None], color, thickness)
    if velocities is not None:
        _draw_velocities(panel, view, center, velocities, colors, thickness)


def write_scores(
    panel: np.ndarray, view: BevView, corners: np.ndarray, labels: Sequence[str], colors: Sequence, height_px: float
) -> None:
    """Writes one short text to the right of each footprint that lies in the window, in place."""
    footprint = view.to_pixels(corners[:, [0, 3, 7, 4], :2])
    for pixels, label, color in zip(footprint, labels, colors, strict=True):
        center = pixels.mean(axis=0)
        if label and (center >= 0).all() and (center < view.size_px).all():
            text(panel, label, (pixels[:, 0].max() + 1, center[1] - height_px), color, height_px)


def _draw_velocities(
    panel: np.ndarray, view: BevView, center: np.ndarray, velocities: np.ndarray, colors: Sequence, thickness: int
) -> None:
    # In pixels a second; v grows downwards.
    motion = np.asarray(velocities, np.float64)[:, :2] * [view.px_per_m, -view.px_per_m]
    speed = np.hypot(*motion.T) / view.px_per_m
    for index in np.flatnonzero(speed >= MIN_SPEED_MPS):
        arrow(panel, center[index], center[index] + motion[index], colors[index], thickness)


def _draw_rings(panel: np.ndarray, view: BevView, scale: float) -> None:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1e9) if view.half_range_m / s <= 5.5)
    origin = view.to_pixels(np.zeros(2))
    reach = view.half_range_m
    cross = view.to_pixels(np.array([[[-reach, 0], [reach, 0]], [[0, -reach], [0, reach]]]))
    stroke(panel, cross, _RING, 1)
    height = 8.0 * scale
    for radius in np.arange(step, reach * 1.42, step):
        circle(panel, origin, radius * view.px_per_m, _RING, 1)
        if radius <= reach:
            at = view.to_pixels(np.array([0, radius]))
            text(panel, f'{radius:g} m', (at[0] + 2, at[1] + 1), _RING_TEXT, height)


def _draw_points(panel: np.ndarray, view: BevView, points: np.ndarray) -> None:
    inside = np.isfinite(points).all(axis=1) & (np.abs(points[:, :2]) < view.half_range_m).all(axis=1)
    points = points[inside]
    # Highest last, so that what sticks out of the ground is what one sees.
    points = points[np.argsort(points[:, 2], kind='stable')]
    pixels = np.rint(view.to_pixels(points[:, :2])).astype(np.int64).clip(0, view.size_px - 1)
    level = np.clip((points[:, 2] + 2.5) / 5.0, 0, 1)[:, None]
    shade = ((1 - level) * [96, 84, 76] + level * [205, 198, 190]).astype(np.uint8)
    size = 2 if view.px_per_m > 14 else 1
    for row in range(size):
        for column in range(size):
            at = np.minimum(pixels + [column, row], view.size_px - 1)
            panel[at[:, 1], at[:, 0]] = shade


def _draw_ego(panel: np.ndarray, view: BevView) -> None:
    outline = np.array([[-0.9, -2.0], [-0.9, 1.3], [0.0, 2.3], [0.9, 1.3], [0.9, -2.0]])
    pixels = view.to_pixels(outline)
    fill(panel, [pixels], [_EGO], 0.85)
    stroke(panel, polyline(pixels), _EGO, 1)
