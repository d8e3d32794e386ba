"""What data sets of people in crowds annotate, in one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from mmdet3d.structures import LiDARInstance3DBoxes


def crowd_annotations(annotations: Mapping[str, Any], ignored: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the people of a frame, and those who are ignored.

    Args:
        annotations: as of `SingleFrameBoxDataset.parse_ann_info`, of instances with `track_id`, `occlusion` and
            `num_lidar_pts`, -1 where unknown.
        ignored: such instances with boxes of 9 numbers, and the `reason`.

    Returns:
        gt_bboxes_3d (LiDARInstance3DBoxes of 9 numbers), gt_labels_3d, num_lidar_pts, occlusion and track_ids (N,)
        int64; ignored_bboxes_3d (M, 9) float32, ignored_num_lidar_pts, ignored_occlusion and ignored_track_ids (M,)
        int64, ignored_reasons (M,) texts.
    """
    count = len(annotations['gt_labels_3d'])
    unknown = np.full(count, -1, np.int64)
    boxes = annotations['gt_bboxes_3d']
    return {
        'gt_bboxes_3d': boxes if count else LiDARInstance3DBoxes(np.zeros((0, 9), np.float32), box_dim=9),
        'gt_labels_3d': annotations['gt_labels_3d'],
        'num_lidar_pts': np.asarray(annotations['num_lidar_pts'], np.int64),
        'occlusion': np.asarray(annotations.get('occlusion', unknown), np.int64),
        'track_ids': np.asarray(annotations.get('track_id', unknown), np.int64),
        'ignored_bboxes_3d': np.array([box['bbox_3d'] for box in ignored], np.float32).reshape(-1, 9),
        'ignored_num_lidar_pts': _numbers(ignored, 'num_lidar_pts'),
        'ignored_occlusion': _numbers(ignored, 'occlusion'),
        'ignored_track_ids': _numbers(ignored, 'track_id'),
        'ignored_reasons': np.array([box.get('reason', '') for box in ignored], np.str_),
    }


def _numbers(boxes: Sequence[Mapping[str, Any]], key: str) -> npt.NDArray[np.int64]:
    return np.array([box.get(key, -1) for box in boxes], np.int64)
