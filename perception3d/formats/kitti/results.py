"""What a result file of KITTI's object benchmark holds of boxes in the LiDAR frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.evaluation.predictions import finite_boxes
from perception3d.formats.kitti.files import (
    Objects,
    camera_corners,
    camera_fields_from_lidar,
    observation_angle,
)
from perception3d.geometry.frustum import NEAR_M, near_plane_crossings

CAMERA_OF_RESULTS = ('cam_from_lidar', 'stored_from_cam', 'stored_hw')
"""Keys of a sample that its result file needs, see `structures.sample_schema`; each of one camera."""

_EDGES = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3], [1, 2, 3, 0, 5, 6, 7, 4, 4, 5, 6, 7]])


def image_boxes(
    corners_cam: npt.NDArray[Any], img_from_cam: npt.NDArray[Any], image_hw: Sequence[int]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Projects boxes into an image: the rectangle around the part that is in front of the camera, clipped to the image.

    A box that reaches behind the camera is cut 0.1 m before it, where mmdet3d would mirror the corners behind.

    Args:
        corners_cam: (N, 8, 3) corners from `files.camera_corners`, metres.
        img_from_cam: (4, 4) pixels times depth from the same frame.
        image_hw: height and width of the image in pixels.

    Returns:
        (N, 4) x1, y1, x2, y2 in pixels, zeros for a box behind the camera; (N,) whether the image sees any of the box.
    """
    homogeneous = corners_cam @ img_from_cam[:3, :3].T + img_from_cam[:3, 3]
    first, second = homogeneous[:, _EDGES[0]], homogeneous[:, _EDGES[1]]
    cuts, crosses = near_plane_crossings(first, second)
    points = np.concatenate([homogeneous, cuts], 1)
    usable = np.concatenate([homogeneous[..., 2] >= NEAR_M, crosses], 1)
    pixels = points[..., :2] / np.where(usable, points[..., 2], 1.0)[..., None]
    low = np.where(usable[..., None], pixels, np.inf).min(1)
    high = np.where(usable[..., None], pixels, -np.inf).max(1)
    size = np.array([image_hw[1], image_hw[0]], np.float64)
    seen = (low < size).all(1) & (high > 0).all(1)
    boxes = np.concatenate([low.clip(0, size), high.clip(0, size)], 1)
    return np.where(usable.any(1)[:, None], boxes, 0.0), seen


def result_objects(
    boxes: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    names: npt.NDArray[Any],
    cam_from_lidar: npt.NDArray[Any],
    img_from_cam: npt.NDArray[Any],
    image_hw: Sequence[int],
) -> tuple[Objects, npt.NDArray[Any]]:
    """Converts boxes of the LiDAR frame to what a result file holds.

    Args:
        boxes: (N, >=7) x, y, z of the bottom's middle, l, w, h, yaw; metres, radians.
        scores: (N,).
        names: (N,) types.
        cam_from_lidar: (4, 4) rectified camera 0 from LiDAR.
        img_from_cam, image_hw: as of `image_boxes`.

    Returns:
        The objects, and (N,) whether the image sees any of each.
    """
    sizes, places, rotation = camera_fields_from_lidar(boxes.astype(np.float64), cam_from_lidar)
    rectangles, seen = image_boxes(camera_corners(sizes, places, rotation), img_from_cam, image_hw)
    unknown = np.full(len(boxes), -1)
    alpha = observation_angle(places, rotation)
    return Objects(names, unknown.astype(np.float64), unknown, alpha, rectangles, sizes, places, rotation, scores), seen


def predicted_objects(
    sample: Any, classes: Sequence[str], limit_range_m: npt.NDArray[Any] | None = None
) -> tuple[Objects, npt.NDArray[Any], int]:
    """Converts the predictions of a sample to what its result file holds.

    Args:
        sample: with `pred_instances_3d` (LiDARInstance3DBoxes) and CAMERA_OF_RESULTS of its one camera: a
            Det3DDataSample, or the dict of one.
        classes: class names by label.
        limit_range_m: boxes whose bottom's middle is outside x0, y0, z0, x1, y1, z1 are left out; None for no limit.

    Returns:
        The objects, (N,) whether the image sees any of each, and how many predictions were left out as not finite.
    """
    predictions = finite_boxes(sample.get('pred_instances_3d'), sample.get('frame_id', ''))
    kept = np.ones(len(predictions.boxes), bool)
    if limit_range_m is not None:
        kept = ((predictions.boxes[:, :3] > limit_range_m[:3]) & (predictions.boxes[:, :3] < limit_range_m[3:])).all(1)
    names = np.array(classes, dtype='U32')[predictions.labels[kept]]
    cam_from_lidar, img_from_cam, (image_hw,) = (sample.get(key) for key in CAMERA_OF_RESULTS)
    matrices = np.asarray(cam_from_lidar, np.float64)[0], np.asarray(img_from_cam, np.float64)[0]
    objects, seen = result_objects(predictions.boxes[kept], predictions.scores[kept], names, *matrices, image_hw)
    return objects, seen, predictions.dropped
