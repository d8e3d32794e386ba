"""Panels below a picture: which predictions are right, and the maps over the ground or an image that explain them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from perception3d.structures.base import Structure
from perception3d.structures.frame import SensorFrame
from perception3d.structures.heatmaps import canvas_from_cells, canvas_from_image_map
from perception3d.structures.primitives import GroundMap, ImageMap, Raster, StructureStyle
from perception3d.structures.views import BevView, CameraView
from perception3d.visualization.bev import draw_background
from perception3d.visualization.canvas import text
from perception3d.visualization.layout import GAP, resize
from perception3d.visualization.paint import paint, warp_raster
from perception3d.visualization.palette import class_color
from perception3d.visualization.windows import camera_view, covering_view, point_size

_FIRST_COLUMNS, _COLUMNS = 2, 4
_OUTLINE, _OUTLINE_COLOR = StructureStyle(), (235, 235, 235)
_COLORS = cv2.COLORMAP_INFERNO
# Of the colour of a map over an image; the rest is the image.
_MAP_SHARE = 0.65
_MATCH = StructureStyle(thickness_px=2, bev_opacity=0.25)


def draw_map(values: np.ndarray, range_m: Sequence[float], view: BevView) -> np.ndarray:
    """Returns a panel (H, W, 3) BGR of a map (X, Y) over `range_m`: dark is 0, bright 1, black not covered."""
    placed = canvas_from_cells(view, range_m, values.shape)
    panel = warp_raster(Raster(np.zeros(1, int), (), values, placed), view.width_px, view.height_px)
    return cv2.applyColorMap(panel, _COLORS)


def draw_panels(
    frame: SensorFrame,
    outlined: Sequence[Structure],
    maps: Sequence[GroundMap],
    matches: Sequence[tuple[str, Structure]],
    width_px: int,
    scale: float,
) -> np.ndarray | None:
    """Returns rows of panels (H, `width_px`, 3) BGR that all show the same ground; None if there are none.

    Args:
        frame: its points are in the background of matches, its axes say what is forward.
        outlined: structures that are outlined white on every map.
        maps: one panel each.
        matches: one panel each, words above it and structure; the numbers of its objects are below in their colours.
        width_px: of all panels of a row together.
        scale: size of texts; 1.0 suits a picture 1920 pixels wide.
    """
    count, gap = len(matches) + len(maps), max(2, round(4 * scale))
    rows = []
    for first, columns in _rows(count):
        side = (width_px - (columns - 1) * gap) // columns
        view = _view(frame, maps, [structure for _, structure in matches], side)
        view = replace(view, scale=scale, with_texts=False, with_motion=False)
        row = np.full((view.height_px + gap, width_px, 3), GAP, np.uint8)
        for k in range(first, min(first + columns, count)):
            if k < len(matches):
                panel = _draw_matches(frame, *matches[k], view)
            else:
                panel = _draw_map_panel(maps[k - len(matches)], outlined, view)
            left = (k - first) * (side + gap)
            row[gap:, left : left + side] = panel
        rows.append(row)
    return np.concatenate(rows) if rows else None


def draw_image_map(each: ImageMap, image: np.ndarray, view: CameraView) -> np.ndarray:
    """Returns a panel (H, W, 3) BGR of a map over the grey image of its view: dark is 0, bright 1, grey not covered.

    Args:
        each: the map.
        image: (H, W, 3) BGR, the canvas of the view.
        view: of the image.
    """
    place = canvas_from_image_map(view, each.stored_from_map, each.values.shape)
    size = view.width_px, view.height_px
    colors = cv2.applyColorMap(warp_raster(Raster(np.zeros(1, int), (), each.values, place), *size), _COLORS)
    covered = warp_raster(Raster(np.zeros(1, int), (), np.ones_like(each.values), place), *size)[..., None] > 0
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    panel = np.where(covered, cv2.addWeighted(grey, 1 - _MAP_SHARE, colors, _MAP_SHARE, 0), grey)
    text(panel, each.title, (4, 4), height_px=9 * view.scale, plate=0.6)
    return panel


def draw_image_panels(frame: SensorFrame, maps: Sequence[ImageMap], width_px: int, scale: float) -> list[np.ndarray]:
    """Returns rows (H, `width_px`, 3) BGR of panels, up to four side by side, of maps over images of a frame.

    Args:
        frame: a map without a camera is of its first image.
        maps: one panel each.
        width_px: of all panels of a row together.
        scale: size of texts; 1.0 suits a picture 1920 pixels wide.
    """
    gap, rows = max(2, round(4 * scale)), []
    columns = min(len(maps), _COLUMNS)
    for first in range(0, len(maps), _COLUMNS):
        panels = []
        for each in maps[first : first + columns]:
            name = each.camera or next(iter(frame.images))
            factor = ((width_px - (columns - 1) * gap) // columns) / frame.images[name].shape[1]
            image = resize(frame.images[name], factor)
            panels.append(draw_image_map(each, image, camera_view(frame, name, image, factor, scale)))
        row = np.full((max(map(len, panels)) + gap, width_px, 3), GAP, np.uint8)
        left = 0
        for panel in panels:
            row[gap : gap + len(panel), left : left + panel.shape[1]] = panel
            left += panel.shape[1] + gap
        rows.append(row)
    return rows


def _rows(count: int) -> list[tuple[int, int]]:
    """The number of the first panel and of the columns of each row: panels of the first row are larger."""
    starts = [0, *range(_FIRST_COLUMNS, count, _COLUMNS)] if count else []
    return [(start, _COLUMNS if start else _FIRST_COLUMNS) for start in starts]


def _view(frame: SensorFrame, maps: Sequence[GroundMap], structures: Sequence[Structure], width_px: int) -> BevView:
    """The view of all maps, or where there are none of all objects with a metre around them."""
    ranges = [each.range_m for each in maps]
    if not ranges:
        xy = np.concatenate([np.zeros((1, 2)), *(structure.footprints() for structure in structures)])
        (x0, y0), (x1, y1) = xy.min(axis=0) - 1, xy.max(axis=0) + 1
        ranges = [(float(x0), float(y0), float(x1), float(y1))]
    return covering_view(frame.axes, ranges, width_px)


def _draw_map_panel(each: GroundMap, outlined: Sequence[Structure], view: BevView) -> np.ndarray:
    panel = draw_map(each.values, each.range_m, view)
    for structure in outlined:
        paint(panel, structure.primitives(view, _OUTLINE), color=_OUTLINE_COLOR)
    text(panel, each.title, (4, 4), height_px=9 * view.scale, plate=0.6)
    return panel


def _draw_matches(frame: SensorFrame, words: str, structure: Structure, view: BevView) -> np.ndarray:
    panel = draw_background(view, frame.points, view.scale, point_size(view, frame.points))
    paint(panel, structure.primitives(view, _MATCH))
    height_px, top = 9 * view.scale, 4.0
    text(panel, words, (4, top), height_px=height_px, plate=0.6)
    for name, count in zip(structure.classes, structure.counts().tolist()):
        top += 2 * height_px
        text(panel, f'{name}: {count}', (4, top), class_color(name), height_px, plate=0.6)
    return panel
