"""Several detectors on one scene: their boxes, and below what each answers in every pillar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from perception3d.checks import InputError
from perception3d.visualization.bev import BevWindow, draw_bev_boxes, draw_ground
from perception3d.visualization.canvas import text
from perception3d.visualization.draw import BoxSet
from perception3d.visualization.ground import Ground, covering_window
from perception3d.visualization.palette import class_colors

_TRUTH_COLOR = (235, 235, 235)


@dataclass(frozen=True)
class Answer:
    """What one detector says of a scene.

    Attributes:
        title: above its column.
        boxes: its predictions, in the LiDAR frame.
        response: (X, Y) in 0..1, such as the best class probability of every pillar; axes of the LiDAR frame.
        range_m: (x0, y0, x1, y1) that the response covers.
    """

    title: str
    boxes: BoxSet
    response: np.ndarray
    range_m: tuple[float, float, float, float]


def draw_comparison(
    answers: Sequence[Answer],
    class_names: Sequence[str],
    ground_truth: BoxSet | None = None,
    ground: Ground | None = None,
    width_px: int = 480,
) -> np.ndarray:
    """Returns a picture (2 * H, N * W, 3) BGR: a column for each of N answers, boxes above, response below.

    Annotated boxes are tinted white in the upper row and outlined in white in the lower. Every panel shows all that any
    of the responses covers, with the way forward up.

    Args:
        answers: what the detectors say.
        class_names: K names; colours follow them.
        ground_truth: the annotated boxes, where there are any.
        ground: how the LiDAR frame lies; by default as that of nuScenes.
        width_px: of a column; the height follows.

    Raises:
        InputError: there is nothing to compare.
    """
    if not answers:
        raise InputError('there is nothing to compare: give one answer or more')
    view = covering_window(ground or Ground(), [answer.range_m for answer in answers], width_px)
    return np.hstack([np.vstack(_column(answer, class_names, ground_truth, view)) for answer in answers])


def _column(
    answer: Answer, class_names: Sequence[str], ground_truth: BoxSet | None, view: BevWindow
) -> tuple[np.ndarray, np.ndarray]:
    scene = draw_ground(view, None, view.width_px / 640)
    response = draw_response(answer.response, answer.range_m, view)
    if ground_truth is not None and len(ground_truth):
        white = [_TRUTH_COLOR] * len(ground_truth)
        draw_bev_boxes(scene, view, ground_truth.corners, white, 1, fill_opacity=0.3)
        draw_bev_boxes(response, view, ground_truth.corners, white, 1)
    colors = class_colors(class_names)[answer.boxes.labels]
    draw_bev_boxes(scene, view, answer.boxes.corners, colors, 2)
    text(scene, answer.title, (4, 4), height_px=13, plate=0.6)
    for panel in (scene, response):
        panel[:, -1] = 90
    return scene, response


def draw_response(response: np.ndarray, range_m: Sequence[float], view: BevWindow) -> np.ndarray:
    """Returns a panel (H, W, 3) BGR of a map (X, Y) in 0..1: dark is 0, bright 1; what it does not cover is black."""
    if response.ndim != 2:
        raise InputError(f'a response map is (X, Y), got {response.shape}')
    values = (np.asarray(response, np.float32).clip(0, 1) * 255).astype(np.uint8)
    low, high = np.split(np.asarray(range_m, np.float64), 2)
    cell = (high - low) / response.shape
    # The first pillar and its neighbours along x and y say where all the others lie.
    first, along_x, along_y = view.to_pixels(low + cell * [[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]])
    # To OpenCV the map is a picture whose columns run along y.
    affine = np.column_stack([along_y - first, along_x - first, first])
    size = (view.width_px, view.height_px)
    panel = cv2.warpAffine(np.ascontiguousarray(values), affine, size, flags=cv2.INTER_NEAREST)
    return cv2.applyColorMap(panel, cv2.COLORMAP_INFERNO)
