"""3D boxes as wireframes in a camera image, cut exactly at the near plane and at the image border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception3d.visualization.canvas import fill, stroke, text

# Corner order of mmdet3d: x0y0z0, x0y0z1, x0y1z1, x0y1z0, then the same four at x1, the front of the box.
EDGES = np.array(
    [(0, 3), (3, 7), (7, 4), (4, 0), (1, 2), (2, 6), (6, 5), (5, 1), (0, 1), (3, 2), (7, 6), (4, 5)], np.int64
)
FRONT = np.array([4, 5, 6, 7], np.int64)

NEAR_M = 0.1


@dataclass(frozen=True)
class LineStyle:
    """How a kind of box is drawn: thickness in pixels, dash and gap in pixels (None: solid), opacity of the front."""

    thickness: int = 1
    dash_px: tuple[float, float] | None = None
    front_opacity: float = 0.3


def to_homogeneous(points: np.ndarray, img_from_lidar: np.ndarray) -> np.ndarray:
    """Maps points (..., 3) in metres to (..., 3) homogeneous pixels (u*d, v*d, d) with d the depth in metres."""
    matrix = np.asarray(img_from_lidar, np.float64)[:3]
    return np.asarray(points, np.float64) @ matrix[:, :3].T + matrix[:, 3]


def frustum(width: int, height: int, near_m: float = NEAR_M, margin_px: float = 4.0) -> np.ndarray:
    """Returns the half spaces (5, 4) of an image: a homogeneous pixel h is inside where planes @ (h, 1) >= 0."""
    right, low = width - 1 + margin_px, height - 1 + margin_px
    return np.array(
        [[0, 0, 1, -near_m], [1, 0, margin_px, 0], [0, 1, margin_px, 0], [-1, 0, right, 0], [0, -1, low, 0]],
        np.float64,
    )


def clip_segments(segments: np.ndarray, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cuts segments in homogeneous pixels, before the division by depth, so that nothing behind the camera flips over.

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


def clip_polygon(polygon: np.ndarray, planes: np.ndarray) -> np.ndarray:
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
    return polygon[:, :2] / polygon[:, 2:]


def draw_wireframes(
    image: np.ndarray,
    corners: np.ndarray,
    img_from_lidar: np.ndarray,
    colors: Sequence[Sequence[int]],
    style: LineStyle,
    labels: Sequence[str] | None = None,
    label_height_px: float = 9.0,
) -> int:
    """Draws boxes into an image in place, far ones first, and returns how many of them are seen.

    Args:
        image: (H, W, 3) uint8 BGR.
        corners: (N, 8, 3) in the order of mmdet3d (see `EDGES`), metres, in the frame that `img_from_lidar` maps from.
        img_from_lidar: (4, 4) or (3, 4), to the pixels of this image.
        colors: N colours (blue, green, red).
        style: thickness, dashes, tint of the front face.
        labels: N short texts written above boxes that are at least three text lines high in the image.
        label_height_px: height of the capitals of a label.
    """
    if not len(corners):
        return 0
    planes = frustum(image.shape[1], image.shape[0])
    homogeneous = to_homogeneous(corners, img_from_lidar)
    drawn = 0
    for index in np.argsort(-homogeneous[..., 2].mean(axis=1), kind='stable'):
        segments, _ = clip_segments(homogeneous[index][EDGES], planes)
        if not len(segments):
            continue
        drawn += 1
        _tint(image, clip_polygon(homogeneous[index][FRONT], planes), colors[index], style.front_opacity)
        extent_px = float(np.ptp(segments.reshape(-1, 2), axis=0).max())
        # Thick lines and dark halos help large boxes and would swallow small ones; a halo would close dashes.
        thickness = style.thickness if extent_px >= 64 else 1
        halo = style.dash_px is None and extent_px >= 90
        stroke(image, segments, colors[index], thickness, style.dash_px, halo)
        if labels is not None and labels[index]:
            _write_above(image, segments, labels[index], colors[index], label_height_px)
    return drawn


def _tint(image: np.ndarray, polygon: np.ndarray, color: Sequence[int], opacity: float) -> None:
    if len(polygon) < 3:
        return
    low = np.maximum(np.floor(polygon.min(axis=0)).astype(int) - 1, 0)
    high = np.ceil(polygon.max(axis=0)).astype(int) + 2
    area = image[low[1] : high[1], low[0] : high[0]]
    if area.size:
        fill(area, [polygon - low], [color], opacity)


def _write_above(
    image: np.ndarray, segments: np.ndarray, label: str, color: Sequence[int], label_height_px: float
) -> None:
    corner, extent = segments.reshape(-1, 2).min(axis=0), np.ptp(segments.reshape(-1, 2), axis=0)
    if extent[1] >= 3 * label_height_px or extent[0] >= 3 * label_height_px:
        text(image, label, (corner[0], corner[1] - 1.9 * label_height_px), color, label_height_px, plate=0.55)
