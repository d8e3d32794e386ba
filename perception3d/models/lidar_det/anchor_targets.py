"""Which ground-truth box an anchor belongs to, by the overlap of axis-aligned boxes in bird's-eye view, on the CPU.

mmdet3d computes the overlap of every anchor with every object in a dozen passes over memory; nearly all are zero. Here
one pass in numba skips what does not touch. The results are equal bit by bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmdet3d.models.task_modules.assigners import Max3DIoUAssigner
from mmdet3d.structures import get_box_type
from mmdet3d.structures.ops import BboxOverlapsNearest3D
from numba import njit
from torch import Tensor


def is_supported(assigner: Any) -> bool:
    """Returns whether `assign` computes what this assigner of mmdet3d does; subclasses may do something else."""
    return type(assigner) is Max3DIoUAssigner and type(assigner.iou_calculator) is BboxOverlapsNearest3D


def nearest_bev(boxes: Tensor, coordinate: str = 'lidar') -> Tensor:
    """Returns boxes (N, 7+) as the nearest axis-aligned rectangles x1, y1, x2, y2 (N, 4), in metres, as mmdet3d."""
    box_type, _ = get_box_type(coordinate)
    return box_type(boxes, box_dim=boxes.shape[-1]).nearest_bev


def assign(assigner: Max3DIoUAssigner, anchors: Tensor, boxes: Tensor) -> Tensor:
    """Assigns objects to anchors by the rules and thresholds of mmdet3d's Max3DIoUAssigner.

    Args:
        assigner: an assigner that `is_supported`.
        anchors: rectangles (A, 4) of `nearest_bev`, float32, on the CPU.
        boxes: rectangles (G, 4) of the objects, in the same form.

    Returns:
        (A,) int64: 1 + the object's index, 0 for background, -1 for neither.
    """
    below = assigner.neg_iou_thr
    low, high = below if isinstance(below, tuple) else (0.0, below)
    owners = _assign(
        anchors.contiguous().numpy(),
        boxes.contiguous().numpy(),
        # float32, as the thresholds are compared with float32 overlaps in torch.
        np.array([low, high, assigner.pos_iou_thr, assigner.min_pos_iou], np.float32),
        assigner.match_low_quality,
        assigner.gt_max_assign_all,
    )
    return torch.from_numpy(owners)


@njit(cache=True, inline='always')
def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of rectangles (4,) in float32, in the order of operations of bbox_overlaps of mmdet."""
    zero = np.float32(0)
    width = max(min(a[2], b[2]) - max(a[0], b[0]), zero)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), zero)
    common = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / max(union, np.float32(1e-6))


@njit(cache=True, inline='always')
def _touch(a: np.ndarray, b: np.ndarray) -> bool:
    return a[0] < b[2] and a[2] > b[0] and a[1] < b[3] and a[3] > b[1]


@njit(cache=True)
def _assign(
    anchors: np.ndarray, boxes: np.ndarray, thresholds: np.ndarray, low_quality: bool, all_best: bool
) -> np.ndarray:
    low, high, positive, least = thresholds
    best = np.zeros(len(anchors), np.float32)
    owner = np.zeros(len(anchors), np.int64)
    best_of_box, best_anchor = np.zeros(len(boxes), np.float32), np.zeros(len(boxes), np.int64)
    for g in range(len(boxes)):
        for a in range(len(anchors)):
            if _touch(anchors[a], boxes[g]):
                overlap = _overlap(boxes[g], anchors[a])
                if overlap > best[a]:
                    best[a], owner[a] = overlap, g
                if overlap > best_of_box[g]:
                    best_of_box[g], best_anchor[g] = overlap, a
    assigned = np.full(len(anchors), -1, np.int64)
    for a in range(len(anchors)):
        if low <= best[a] < high:
            assigned[a] = 0
        if best[a] >= positive:
            assigned[a] = owner[a] + 1
    if low_quality:
        for g in range(len(boxes)):
            if best_of_box[g] < least:
                continue
            if not all_best:
                assigned[best_anchor[g]] = g + 1
                continue
            # A best overlap of 0 is that of all anchors that do not touch the box, as in mmdet.
            for a in range(len(anchors)):
                may_equal = best_of_box[g] == 0 or _touch(anchors[a], boxes[g])
                if may_equal and _overlap(boxes[g], anchors[a]) == best_of_box[g]:
                    assigned[a] = g + 1
    return assigned
