"""Pictures from plain arrays, for tests that look at pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from perception3d.structures.boxes import Boxes
from perception3d.structures.frame import Y_FORWARD, LidarAxes, SensorFrame
from perception3d.structures.sample import SampleStructures
from perception3d.visualization import draw


def carried(ground_truth: Any = None, predictions: Any = None) -> SampleStructures:
    """One structure or none of each source."""
    return SampleStructures(*(None if one is None else (one,) for one in (ground_truth, predictions)))


def draw_sample(
    images: Mapping[str, np.ndarray],
    img_from_lidar: Mapping[str, np.ndarray],
    class_names: Any,
    ground_truth: Boxes | None = None,
    predictions: Boxes | None = None,
    points: np.ndarray | None = None,
    title: str = '',
    axes: LidarAxes = Y_FORWARD,
    **settings: Any,
) -> np.ndarray:
    """The picture of `draw.draw_sample`."""
    frame = SensorFrame(images, img_from_lidar, points, axes)
    return draw.draw_sample(frame, class_names, carried(ground_truth, predictions), title, **settings)


def draw_cameras(
    images: Mapping[str, np.ndarray],
    img_from_lidar: Mapping[str, np.ndarray],
    class_names: Any,
    ground_truth: Boxes | None = None,
    predictions: Boxes | None = None,
    style: draw.PictureStyle | None = None,
) -> np.ndarray:
    """The picture of `draw.draw_cameras`."""
    frame = SensorFrame(images, img_from_lidar)
    style = style or draw.PictureStyle()
    return draw.draw_cameras(draw.prepare(frame, class_names, carried(ground_truth, predictions), (), style), style)
