"""Several detectors on one scene: their boxes, and below how each responds in every cell of its BEV grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from perception3d.checks import InputError
from perception3d.structures.base import Structure
from perception3d.structures.frame import Y_FORWARD, LidarAxes
from perception3d.structures.heatmaps import Heatmaps, canvas_from_cells
from perception3d.structures.primitives import Raster, StructureStyle
from perception3d.structures.views import BevView
from perception3d.visualization.bev import draw_ground
from perception3d.visualization.canvas import text
from perception3d.visualization.paint import paint, warp_raster
from perception3d.visualization.windows import covering_view

_PREDICTION = StructureStyle(thickness_px=2)
_TRUTH_COLOR = (235, 235, 235)
_TRUTH_UPPER, _TRUTH_LOWER = StructureStyle(bev_opacity=0.3), StructureStyle()


@dataclass(frozen=True)
class Detection:
    """What one detector predicts in a scene.

    Attributes:
        title: above its column.
        structures: its predictions, in the LiDAR frame, with class names.
        response: how it responds in every cell, such as the best class score; on a BEV range.
    """

    title: str
    structures: Sequence[Structure]
    response: Heatmaps


def draw_comparison(
    detections: Sequence[Detection],
    ground_truth: Sequence[Structure] | None = None,
    axes: LidarAxes = Y_FORWARD,
    width_px: int = 480,
) -> np.ndarray:
    """Returns a picture (2 * H, N * W, 3) BGR: a column for each of N detectors, boxes above, response below.

    Annotated structures are tinted white in the upper row and outlined in white in the lower. Every panel shows all
    that any of the responses covers, with the way forward up.

    Args:
        detections: one for each detector.
        ground_truth: what is annotated, where anything is.
        axes: those of the LiDAR frame.
        width_px: of a column; the height follows.

    Raises:
        InputError: there is nothing to compare, or a response has no BEV range.
    """
    if not detections:
        raise InputError('there is nothing to compare: give one detector or more')
    view = covering_view(axes, [_range_of(detection.response) for detection in detections], width_px)
    view = replace(view, with_texts=False, with_motion=False)
    return np.hstack([np.vstack(_column(detection, ground_truth or (), view)) for detection in detections])


def draw_response(response: Heatmaps, view: BevView) -> np.ndarray:
    """Returns a panel (H, W, 3) BGR of the greatest value over the classes: dark is 0, bright 1, black not covered."""
    best, _ = response.best()
    placed = canvas_from_cells(view, _range_of(response), best.shape)
    panel = warp_raster(Raster(np.zeros(1, int), (), best, placed), view.width_px, view.height_px)
    return cv2.applyColorMap(panel, cv2.COLORMAP_INFERNO)


def _range_of(response: Heatmaps) -> tuple[float, float, float, float]:
    if response.range_m is None:
        raise InputError('a response has no range_m: only maps of the ground can be drawn')
    return response.range_m


def _column(detection: Detection, ground_truth: Sequence[Structure], view: BevView) -> tuple[np.ndarray, np.ndarray]:
    scene, response = draw_ground(view, None, view.width_px / 640), draw_response(detection.response, view)
    for structure in (one.drawable()[0] for one in ground_truth):
        for panel, style in ((scene, _TRUTH_UPPER), (response, _TRUTH_LOWER)):
            paint(panel, structure.primitives(view, style), color=_TRUTH_COLOR)
    for structure in (one.drawable()[0] for one in detection.structures):
        paint(scene, structure.primitives(view, _PREDICTION))
    text(scene, detection.title, (4, 4), height_px=13, plate=0.6)
    for panel in (scene, response):
        panel[:, -1] = 90
    return scene, response
