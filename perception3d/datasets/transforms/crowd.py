"""Steps for data in which only a sector is labelled, and in which some people are neither objects nor background."""

from __future__ import annotations

import math

import numpy as np
from mmcv.transforms import BaseTransform

from perception3d.checks import InputError
from perception3d.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CropToSector(BaseTransform):
    """Keeps the points of the sector in which people are labelled: outside they would be learned as background.

    It belongs right behind the loading, before anything rotates the points.

    Args:
        range_m: distance from the LiDAR in the bird's-eye view.
        half_angle_rad: angle to either side of the x axis.
    """

    def __init__(self, range_m: float = 35.0, half_angle_rad: float = math.pi / 2) -> None:
        if range_m <= 0 or not 0 < half_angle_rad <= math.pi:
            raise InputError(
                f'CropToSector: range_m {range_m} and half_angle_rad {half_angle_rad}: expected more than 0 m, and '
                'an angle above 0 up to pi'
            )
        self.range_m, self.half_angle_rad = range_m, half_angle_rad

    def transform(self, results: dict) -> dict:
        """Filters `points`."""
        points = results['points']
        xy = points.tensor[:, :2].numpy().astype(np.float64)
        # The border of 90 degrees is x = 0 exactly.
        ahead = xy[:, 0] >= math.cos(self.half_angle_rad) * np.hypot(xy[:, 0], xy[:, 1]) - 1e-9
        results['points'] = points[ahead & (np.hypot(xy[:, 0], xy[:, 1]) <= self.range_m)]
        return results


@TRANSFORMS.register_module()
class AddIgnoredBoxes(BaseTransform):
    """Adds the ignored people of a frame to its boxes, with the label -1, so that they move with the points.

    Heads of mmdet3d have no class -1: for them these people are background. `DensityHeatmapHead` gives the places
    around them no weight.
    """

    def transform(self, results: dict) -> dict:
        """Extends `gt_bboxes_3d` and `gt_labels_3d` by `ann_info['ignored_bboxes_3d']` (M, 7 or 9), where it is."""
        ignored = results['ann_info'].get('ignored_bboxes_3d')
        if ignored is None or not len(ignored):
            return results
        boxes = results['gt_bboxes_3d']
        rows = np.asarray(ignored, np.float32)[:, : boxes.tensor.shape[1]]
        results['gt_bboxes_3d'] = boxes.new_box(np.concatenate([boxes.tensor.numpy(), rows]))
        labels = results['gt_labels_3d']
        results['gt_labels_3d'] = np.concatenate([labels, np.full(len(rows), -1, labels.dtype)])
        return results
