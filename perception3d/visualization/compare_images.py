"""Several models on one image: their predictions over the truth, and below each its response and maps on the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from perception3d.checks import InputError
from perception3d.structures.base import Structure
from perception3d.structures.frame import SensorFrame
from perception3d.structures.primitives import Raster, StructureStyle
from perception3d.structures.views import CameraView
from perception3d.visualization.canvas import text
from perception3d.visualization.compare import Column, drawn_classes
from perception3d.visualization.layout import resize
from perception3d.visualization.legend import draw_legend
from perception3d.visualization.paint import paint, warp_raster
from perception3d.visualization.panels import draw_image_panels
from perception3d.visualization.windows import camera_view

_PREDICTION, _TRUTH = StructureStyle(thickness_px=2), StructureStyle(thickness_px=1, dash_px=(5.0, 4.0))
# Cyan: no value of a response has it.
_TRUTH_COLOR = (255, 220, 0)


def draw_image_comparison(
    columns: Sequence[Column], ground_truth: Sequence[Structure] | None, frame: SensorFrame, width_px: int = 720
) -> np.ndarray:
    """Returns a picture (2 * H, N * W + L, 3) BGR: a column for each of N models, predictions above, response below.

    The truth is dashed, on a response in cyan. A model without a response has the truth alone there. Further down, one
    below the other, are the maps over an image that predictions carry, such as the attention of stages; the column of
    a model with fewer of them ends earlier. The last L pixels are a legend.

    Args:
        columns: one for each model.
        ground_truth: what is annotated, where anything is.
        frame: the images on disk, without a LiDAR; several are one below the other.
        width_px: of a column; the height follows.

    Raises:
        InputError: there is nothing to compare.
    """
    if not columns:
        raise InputError('there is nothing to compare: give one model or more')
    truth = [structure.drawable()[0] for structure in ground_truth or ()]
    panels = [_draw_column(column, truth, frame, width_px) for column in columns]
    height_px = max(map(len, panels))
    panels = [np.pad(each, ((0, height_px - len(each)), (0, 0), (0, 0))) for each in panels]
    return np.hstack([*panels, _draw_legend(columns, truth, height_px, width_px)])


def _draw_legend(columns: Sequence[Column], truth: Sequence[Structure], height_px: int, width_px: int) -> np.ndarray:
    classes = drawn_classes([*truth, *(structure for column in columns for structure in column.structures)])
    below = any(column.response is not None for column in columns)
    notes = ['below: response,', 'dark 0, bright 1', *['truth in cyan'] * bool(truth)] if below else []
    return draw_legend(round(0.25 * width_px), height_px, classes, (), notes, width_px / 720, marks=('outlines',))


def _draw_column(column: Column, truth: Sequence[Structure], frame: SensorFrame, width_px: int) -> np.ndarray:
    panels = []
    for name, image in frame.images.items():
        factor = width_px / image.shape[1]
        upper = resize(image, factor)
        view = camera_view(frame, name, upper, factor)
        lower = upper.copy() if column.response is None else _draw_response(column, view)
        for structure in truth:
            paint(upper, structure.primitives(view, _TRUTH))
            paint(lower, structure.primitives(view, _TRUTH), color=None if column.response is None else _TRUTH_COLOR)
        for structure in (one.drawable()[0] for one in column.structures):
            paint(upper, structure.primitives(view, _PREDICTION))
        panels += [upper, lower]
    maps = [each for structure in column.structures for each in structure.image_maps()]
    panels += [row for each in maps for row in draw_image_panels(frame, [each], width_px, 1.0)]
    text(panels[0], column.title, (4, 4), height_px=13, plate=0.6)
    for panel in panels:
        panel[:, -1] = 90
    return np.vstack(panels)


def _draw_response(column: Column, view: CameraView) -> np.ndarray:
    """The greatest value over the classes: dark is 0, bright 1."""
    assert column.response is not None
    best, _ = column.response.best()
    raster = Raster(np.zeros(1, int), (), best, column.response.canvas_from_map(view))
    return cv2.applyColorMap(warp_raster(raster, view.width_px, view.height_px), cv2.COLORMAP_INFERNO)
