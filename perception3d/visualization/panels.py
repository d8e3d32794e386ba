"""BEV panels below a picture: which predictions are right, and the maps over the ground that explain them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from perception3d.structures.base import Structure
from perception3d.structures.frame import SensorFrame
from perception3d.structures.heatmaps import canvas_from_cells
from perception3d.structures.primitives import GroundMap, Raster, StructureStyle
from perception3d.structures.views import BevView
from perception3d.visualization.bev import draw_background
from perception3d.visualization.canvas import text
from perception3d.visualization.layout import GAP
from perception3d.visualization.paint import paint, warp_raster
from perception3d.visualization.palette import class_color
from perception3d.visualization.windows import covering_view, point_size

_FIRST_COLUMNS, _COLUMNS = 2, 4
_OUTLINE, _OUTLINE_COLOR = StructureStyle(), (235, 235, 235)
_MATCH = StructureStyle(thickness_px=2, bev_opacity=0.25)


def draw_map(values: np.ndarray, range_m: Sequence[float], view: BevView) -> np.ndarray:
    """Returns a panel (H, W, 3) BGR of a map (X, Y) over `range_m`: dark is 0, bright 1, black not covered."""
    placed = canvas_from_cells(view, range_m, values.shape)
    panel = warp_raster(Raster(np.zeros(1, int), (), values, placed), view.width_px, view.height_px)
    return cv2.applyColorMap(panel, cv2.COLORMAP_INFERNO)


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
