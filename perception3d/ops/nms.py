"""Non-maximum suppression in the bird's-eye view: by rotated IoU or by distance of centres, class by class.

Kernels are numba on the CPU; a CUDA tensor makes one round trip, or goes to mmcv where it has the op. A box is
suppressed by a better box of the same class whose IoU with it is greater than the threshold (or whose centre is not
further away than the radius). Boxes or scores that are not finite are dropped, on any device. `nms_2d` is that of image
boxes, by mmcv's rule and rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

from perception3d.geometry.boxes import Array
from perception3d.geometry.iou import prepare_flat, to_numpy
from perception3d.geometry.overlap import overlap_area


@njit(cache=True)
def _greedy(boxes: npt.NDArray[Any], circle: bool, bound: float, limit: int, keep: npt.NDArray[Any]) -> None:
    """Marks in `keep` (N,) the survivors among prepared boxes (N, 10) that are sorted by falling score."""
    poly, spare = np.empty((12, 2)), np.empty((12, 2))
    # Survivors so far: place in `boxes`, then columns for the test of distance.
    kept = np.empty(boxes.shape[0], np.int64)
    x, y, radius = np.empty(boxes.shape[0]), np.empty(boxes.shape[0]), np.empty(boxes.shape[0])
    count = 0
    for i in range(boxes.shape[0]):
        if count >= limit:
            break
        alive = True
        for k in range(count):
            dx, dy = boxes[i, 0] - x[k], boxes[i, 1] - y[k]
            square = dx * dx + dy * dy
            if circle:
                alive = square > bound
            else:
                reach = boxes[i, 6] + radius[k]
                if square < reach * reach:
                    other = boxes[kept[k]]
                    area = overlap_area(other, boxes[i], poly, spare)
                    union = 4.0 * (other[2] * other[3] + boxes[i, 2] * boxes[i, 3]) - area
                    alive = not (area > 0.0 and area > bound * union)
            if not alive:
                break
        if alive:
            keep[i] = True
            kept[count], x[count], y[count], radius[count] = i, boxes[i, 0], boxes[i, 1], boxes[i, 6]
            count += 1


@njit(cache=True)
def _greedy_groups(
    boxes: npt.NDArray[Any],
    starts: npt.NDArray[Any],
    circle: npt.NDArray[Any],
    bound: npt.NDArray[Any],
    limit: npt.NDArray[Any],
) -> npt.NDArray[Any]:
    keep = np.zeros(boxes.shape[0], np.bool_)
    for group in range(starts.shape[0] - 1):
        part = slice(starts[group], starts[group + 1])
        _greedy(boxes[part], circle[group], bound[group], limit[group], keep[part])
    return keep


def nms_groups(
    bev: Array,
    scores: Array,
    labels: Array | npt.NDArray[Any],
    bounds: Sequence[float],
    circle: Sequence[bool] | None = None,
    limits: Sequence[int] | None = None,
) -> Array:
    """Indices (K,), by falling score, of the boxes that survive suppression within their own class.

    Args:
        bev: (N, 5) bird's-eye boxes (x, y, l, w, yaw), metres and radians.
        scores: (N,) scores. Equal scores are taken in the order given.
        labels: (N,) class of each box, 0 .. C-1.
        bounds: for each class the IoU above which, or the squared distance (m^2) up to which, a box is suppressed.
        circle: for each class whether `bounds` is a squared distance; default no class.
        limits: for each class the largest number of survivors; default unlimited.
    """
    boxes = np.ascontiguousarray(to_numpy(bev)[:, :5], np.float64)
    values, groups = to_numpy(scores).astype(np.float64), to_numpy(labels).astype(np.int64)
    usable = np.flatnonzero(np.isfinite(values) & np.isfinite(boxes).all(1))
    order = usable[np.lexsort((-values[usable], groups[usable]))]
    classes = len(bounds)
    starts = np.searchsorted(groups[order], np.arange(classes + 1))
    keep = _greedy_groups(
        prepare_flat(boxes[order]),
        starts,
        np.array([False] * classes if circle is None else circle, np.bool_),
        np.array(bounds, np.float64),
        np.array([len(order)] * classes if limits is None else limits, np.int64),
    )
    chosen = order[keep]
    chosen = chosen[np.argsort(-values[chosen], kind='stable')]
    return torch.from_numpy(chosen).to(bev.device) if isinstance(bev, torch.Tensor) else chosen


def nms_rotated(bev: Array, scores: Array, iou_threshold: float, labels: Array | None = None) -> Array:
    """Indices (K,), by falling score, of bird's-eye boxes (N, 5) that survive rotated NMS, per class if `labels`."""
    if isinstance(bev, torch.Tensor) and bev.is_cuda:
        return _nms_by_mmcv(bev[:, :5].float(), scores.float(), iou_threshold, labels)
    groups = np.zeros(len(bev), np.int64) if labels is None else to_numpy(labels)
    classes = int(groups.max()) + 1 if len(groups) else 1
    return nms_groups(bev, scores, groups, [iou_threshold] * classes)


def _nms_by_mmcv(
    bev: torch.Tensor, scores: torch.Tensor, iou_threshold: float, labels: torch.Tensor | None
) -> torch.Tensor:
    from mmcv.ops import nms_rotated as mmcv_nms

    usable = (bev.isfinite().all(1) & scores.isfinite()).nonzero().squeeze(1)
    if not len(usable):
        # mmcv answers None instead of no indices.
        return usable
    labels = None if labels is None else labels[usable]
    return usable[mmcv_nms(bev[usable], scores[usable], iou_threshold, labels)[1]]


@njit(cache=True, error_model='numpy')
def _suppress_2d(
    corners: npt.NDArray[Any], area: npt.NDArray[Any], bound: float, offset: float, zero: float
) -> npt.NDArray[Any]:
    """Marks (N,) the survivors of boxes, sorted by falling score; `corners` are columns (4, N), all of one type."""
    x0, y0, x1, y1 = corners
    keep = np.ones(area.shape[0], np.bool_)
    for i in range(area.shape[0]):
        if not keep[i]:
            continue
        for k in range(i + 1, area.shape[0]):
            # Written out so that a coordinate that is not a number loses, as in C++.
            left = x0[k] if x0[i] < x0[k] else x0[i]
            top = y0[k] if y0[i] < y0[k] else y0[i]
            right = x1[k] if x1[k] < x1[i] else x1[i]
            bottom = y1[k] if y1[k] < y1[i] else y1[i]
            width, height = right - left + offset, bottom - top + offset
            both = (width if zero < width else zero) * (height if zero < height else zero)
            keep[k] &= not both / (area[i] + area[k] - both) > bound
    return keep


def nms_2d(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int = 0) -> torch.Tensor:
    """Indices (K,), by falling score, of image boxes that survive suppression above the threshold.

    Args:
        boxes: (N, 4) left, top, right, bottom in pixels, on the CPU; half types are computed as float32.
        scores: (N,) scores. Equal scores are taken in the order given (in mmcv that depends on the processor).
        iou_threshold: IoU above which a box is suppressed by a better one.
        offset: what is added to widths and heights: 1 where right and bottom are the last pixels of a box, else 0.
    """
    order = scores.detach().sort(descending=True, stable=True)[1]
    sorted_boxes = boxes.detach()[order]
    corners = np.ascontiguousarray((sorted_boxes if boxes.dtype == torch.float64 else sorted_boxes.float()).T.numpy())
    real = corners.dtype.type
    area = (corners[2] - corners[0] + real(offset)) * (corners[3] - corners[1] + real(offset))
    return order[torch.from_numpy(_suppress_2d(corners, area, real(iou_threshold), real(offset), real(0)))]
