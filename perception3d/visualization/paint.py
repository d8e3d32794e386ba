"""Paints drawing primitives on a BGR picture; knows no structure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np

from perception3d.structures.primitives import Lines, Points, Polygons, Primitive, Raster, Texts
from perception3d.visualization.canvas import arrow, fill, stroke, text
from perception3d.visualization.palette import label_colors


def paint(canvas: np.ndarray, primitives: Sequence[Primitive], color: Sequence[int] | None = None) -> None:
    """Paints primitives in place, the later ones over the earlier ones.

    Args:
        canvas: (H, W, 3) uint8 BGR.
        primitives: in pixels (u, v) of the canvas; whole numbers are pixel centres. What lies outside is cut off.
        color: blue, green, red of everything, instead of the colours of the classes.
    """
    painter = CanvasPainter(canvas, color)
    for primitive in primitives:
        primitive.paint_with(painter)


class CanvasPainter:
    """Paints each sort of primitive on a picture (H, W, 3) uint8 BGR, in place."""

    def __init__(self, canvas: np.ndarray, color: Sequence[int] | None = None) -> None:
        self.canvas, self.color = canvas, color

    def _colors(self, primitive: Primitive) -> np.ndarray:
        if self.color is not None:
            return np.tile(np.array(self.color, np.uint8), (np.size(primitive.labels), 1))
        colors = label_colors(primitive.labels, primitive.classes)
        brightness = primitive.style.brightness
        return colors if brightness == 1 else np.rint(colors * brightness).astype(np.uint8)

    def points(self, primitive: Points) -> None:
        """Paints squares of `size_px`, in the given order."""
        paint_squares(self.canvas, primitive.positions, self._colors(primitive), primitive.style.size_px)

    def lines(self, primitive: Lines) -> None:
        """Paints line segments, or arrows, class by class."""
        style, colors = primitive.style, self._colors(primitive)
        if style.arrow:
            for (start, end), color in zip(primitive.segments, colors):
                arrow(self.canvas, start, end, color, style.thickness_px)
            return
        for label in np.unique(primitive.labels):
            chosen = primitive.labels == label
            draw = partial(stroke, self.canvas, primitive.segments[chosen], colors[chosen][0])
            draw(style.thickness_px, style.dash_px, style.halo)

    def polygons(self, primitive: Polygons) -> None:
        """Mixes filled convex polygons with the picture by their opacity, all at once."""
        pairs = zip(primitive.corners, self._colors(primitive))
        drawn = [(corners, color) for corners, color in pairs if len(corners) >= 3]
        if not drawn:
            return
        # Mixing costs by the pixel: only the part of the picture that holds them.
        every = np.concatenate([corners for corners, _ in drawn])
        low = np.maximum(np.floor(every.min(axis=0)).astype(int) - 1, 0)
        high = np.maximum(np.ceil(every.max(axis=0)).astype(int) + 2, 0)
        area = self.canvas[low[1] : high[1], low[0] : high[0]]
        if area.size:
            corners, colors = zip(*drawn)
            fill(area, [polygon - low for polygon in corners], colors, primitive.style.opacity)

    def texts(self, primitive: Texts) -> None:
        """Writes texts."""
        style = primitive.style
        colors = self._colors(primitive)
        for words, position, color in zip(primitive.texts, primitive.positions, colors):
            text(self.canvas, words, position, color, style.text_px, style.plate)

    def raster(self, primitive: Raster) -> None:
        """Mixes the colour of the class with the picture, by the values of the map and the opacity."""
        height, width = self.canvas.shape[:2]
        values = warp_raster(primitive, width, height)
        share = values[..., None].astype(np.float32) * (primitive.style.opacity / 255)
        color = self._colors(primitive)[0]
        self.canvas[:] = np.rint(self.canvas * (1 - share) + share * color).astype(np.uint8)


def paint_squares(canvas: np.ndarray, positions: np.ndarray, colors: np.ndarray, size_px: int) -> None:
    """Paints squares around `positions` (N, 2) pixels in `colors` (N, 3), in place, the later over the earlier ones."""
    height, width = canvas.shape[:2]
    pixels = np.rint(positions).astype(np.int64) - (size_px - 1) // 2
    for row in range(size_px):
        for column in range(size_px):
            u, v = (pixels + [column, row]).T
            inside = (u >= 0) & (v >= 0) & (u < width) & (v < height)
            canvas[v[inside], u[inside]] = colors[inside]


def warp_raster(raster: Raster, width_px: int, height_px: int) -> np.ndarray:
    """Returns the values of a raster in the pixels of a canvas, (H, W) uint8: 0 for 0 and outside, 255 for 1."""
    values = (np.asarray(raster.values, np.float32).clip(0, 1) * 255).astype(np.uint8)
    size = (width_px, height_px)
    return cv2.warpAffine(
        np.ascontiguousarray(values), np.asarray(raster.canvas_from_map, np.float64), size, flags=cv2.INTER_NEAREST
    )
