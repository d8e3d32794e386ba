"""Bird's eye views: forward is up, right is right, as one looks at a map with the vehicle driving upwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from perception3d.visualization.canvas import arrow, circle, fill, polyline, stroke, text

BACKGROUND = (30, 24, 20)
_RING = (78, 68, 60)
_RING_TEXT = (150, 140, 130)
_EGO = (240, 240, 240)

# Speeds below this are noise of a standing object and would litter the picture with stubs.
MIN_SPEED_MPS = 0.3


@dataclass(frozen=True)
class BevWindow:
    """A rectangle of the ground plane as seen from above, the sensor at (0, 0), the vehicle driving upwards.

    Attributes:
        right_m: the left and the right border, metres to the right of the sensor (negative: to its left).
        ahead_m: the lower and the upper border, metres ahead of the sensor (negative: behind it).
        width_px: width in pixels; the height follows.
        forward: (x, y) of the axis of the LiDAR frame along which the vehicle drives, of length 1; its left is a
            quarter turn counter-clockwise.
    """

    right_m: tuple[float, float]
    ahead_m: tuple[float, float]
    width_px: int
    forward: tuple[float, float] = (0.0, 1.0)

    @property
    def px_per_m(self) -> float:
        """Pixels that one metre takes."""
        return self.width_px / (self.right_m[1] - self.right_m[0])

    @property
    def height_px(self) -> int:
        """Height in pixels."""
        return round((self.ahead_m[1] - self.ahead_m[0]) * self.px_per_m)

    def to_map(self, xy: np.ndarray) -> np.ndarray:
        """Maps (..., 2) metres along x and y of the LiDAR frame to (..., 2) metres (to the right, ahead)."""
        xy, (x, y) = np.asarray(xy, np.float64), self.forward
        return np.stack([xy[..., 0] * y - xy[..., 1] * x, xy[..., 0] * x + xy[..., 1] * y], axis=-1)

    def map_to_pixels(self, right_ahead: np.ndarray) -> np.ndarray:
        """Maps (..., 2) metres (to the right, ahead) to (..., 2) pixels, see `to_pixels`."""
        right_ahead = np.asarray(right_ahead, np.float64)
        u = (right_ahead[..., 0] - self.right_m[0]) * self.px_per_m - 0.5
        v = (self.ahead_m[1] - right_ahead[..., 1]) * self.px_per_m - 0.5
        return np.stack([u, v], axis=-1)

    def to_pixels(self, xy: np.ndarray) -> np.ndarray:
        """Maps (..., 2) metres to (..., 2) pixels (u right, v down); whole numbers are pixel centres."""
        return self.map_to_pixels(self.to_map(xy))

    def contains(self, xy: np.ndarray) -> np.ndarray:
        """Returns a mask (...) of the places (..., 2) in metres that lie strictly inside."""
        right_ahead = self.to_map(xy)
        low, high = np.array([self.right_m, self.ahead_m]).T
        return ((right_ahead > low) & (right_ahead < high)).all(axis=-1)


@dataclass(frozen=True)
class BevView(BevWindow):
    """A square window: `half_range_m` to each side of the sensor, `size_px` pixels wide.

    The frame is the nuScenes LiDAR frame: x to the right, y forward, metres.
    """

    right_m: tuple[float, float] = field(init=False)
    ahead_m: tuple[float, float] = field(init=False)
    width_px: int = field(init=False)
    forward: tuple[float, float] = field(init=False, default=(0.0, 1.0))
    half_range_m: float
    size_px: int

    def __post_init__(self) -> None:
        for name in ('right_m', 'ahead_m'):
            object.__setattr__(self, name, (-self.half_range_m, self.half_range_m))
        object.__setattr__(self, 'width_px', self.size_px)


def draw_ground(view: BevWindow, points: np.ndarray | None, scale: float = 1.0, point_px: int = 0) -> np.ndarray:
    """Returns a new (H, W, 3) BGR panel with range rings, points shaded by height and the ego vehicle.

    Args:
        view: the window.
        points: (N, 3 or more) x, y, z in metres, or None. Non-finite points are left out.
        scale: size of text and lines; 1.0 suits a picture 1920 pixels wide.
        point_px: side of the square that a point takes; 0 takes 1 pixel in wide views and 2 in near ones.
    """
    panel = np.full((view.height_px, view.width_px, 3), BACKGROUND, np.uint8)
    _draw_rings(panel, view, scale)
    if points is not None and len(points):
        _draw_points(panel, view, np.asarray(points)[:, :3], point_px or (2 if view.px_per_m > 14 else 1))
    _draw_ego(panel, view)
    return panel


def draw_bev_boxes(
    panel: np.ndarray,
    view: BevWindow,
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
    panel: np.ndarray, view: BevWindow, corners: np.ndarray, labels: Sequence[str], colors: Sequence, height_px: float
) -> None:
    """Writes one short text to the right of each footprint that lies in the window, in place."""
    footprint = view.to_pixels(corners[:, [0, 3, 7, 4], :2])
    for pixels, label, color in zip(footprint, labels, colors, strict=True):
        center = pixels.mean(axis=0)
        if label and (center >= 0).all() and (center < (view.width_px, view.height_px)).all():
            text(panel, label, (pixels[:, 0].max() + 1, center[1] - height_px), color, height_px)


def _draw_velocities(
    panel: np.ndarray, view: BevWindow, center: np.ndarray, velocities: np.ndarray, colors: Sequence, thickness: int
) -> None:
    # In pixels a second; v grows downwards.
    motion = view.to_map(np.asarray(velocities)[:, :2]) * [view.px_per_m, -view.px_per_m]
    speed = np.hypot(*motion.T) / view.px_per_m
    for index in np.flatnonzero(speed >= MIN_SPEED_MPS):
        arrow(panel, center[index], center[index] + motion[index], colors[index], thickness)


def _draw_rings(panel: np.ndarray, view: BevWindow, scale: float) -> None:
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


def _draw_points(panel: np.ndarray, view: BevWindow, points: np.ndarray, size: int) -> None:
    points = points[np.isfinite(points).all(axis=1)]
    points = points[view.contains(points[:, :2])]
    # Highest last, so that what sticks out of the ground is what one sees.
    points = points[np.argsort(points[:, 2], kind='stable')]
    last = np.array([view.width_px, view.height_px]) - 1
    pixels = np.rint(view.to_pixels(points[:, :2])).astype(np.int64).clip(0, last)
    level = np.clip((points[:, 2] + 2.5) / 5.0, 0, 1)[:, None]
    shade = ((1 - level) * [96, 84, 76] + level * [205, 198, 190]).astype(np.uint8)
    for row in range(size):
        for column in range(size):
            at = np.minimum(pixels + [column, row], last)
            panel[at[:, 1], at[:, 0]] = shade


def _draw_ego(panel: np.ndarray, view: BevWindow) -> None:
    outline = np.array([[-0.9, -2.0], [-0.9, 1.3], [0.0, 2.3], [0.9, 1.3], [0.9, -2.0]])
    pixels = view.map_to_pixels(outline)
    fill(panel, [pixels], [_EGO], 0.85)
    stroke(panel, polyline(pixels), _EGO, 1)
