"""Predicted boxes of a sample as arrays, for metrics and result files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from mmdet3d.structures import LiDARInstance3DBoxes

from perception3d.checks import InputError


@dataclass(frozen=True)
class FiniteBoxes:
    """The M predicted boxes of a sample that are finite.

    boxes (M, 7) float64: x, y, z of the bottom's middle, l, w, h, yaw in the LiDAR frame, metres and radians; scores
    (M,) float64; labels (M,) int64; dropped: how many others have NaN or infinity.
    """

    boxes: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    dropped: int


def finite_boxes(predicted: Mapping[str, Any], frame: str = '') -> FiniteBoxes:
    """Returns the boxes of mmdet3d's `pred_instances_3d`: `bboxes_3d`, `scores_3d`, `labels_3d`.

    Raises:
        InputError: the boxes are not LiDARInstance3DBoxes; names the `frame`.
    """
    boxes = lidar_boxes(predicted['bboxes_3d'], frame)
    scores = predicted['scores_3d'].detach().cpu().double().numpy()
    labels = predicted['labels_3d'].detach().cpu().numpy().astype(np.int64)
    finite = np.isfinite(boxes).all(1) & np.isfinite(scores)
    return FiniteBoxes(boxes[finite], scores[finite], labels[finite], int((~finite).sum()))


def lidar_boxes(boxes: Any, frame: str = '') -> npt.NDArray[Any]:
    """Returns LiDARInstance3DBoxes as (M, 7) float64; InputError for boxes of another frame, which names `frame`."""
    if not isinstance(boxes, LiDARInstance3DBoxes):
        raise InputError(f'frame {frame} has {type(boxes).__name__}: expected LiDARInstance3DBoxes')
    array: npt.NDArray[Any] = boxes.tensor.detach().cpu().double().numpy()[:, :7]
    return array
