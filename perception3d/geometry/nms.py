"""Non-maximum suppression in the bird's-eye view: by rotated IoU or by distance of centres, class by class.

Kernels are numba on the CPU; a CUDA tensor makes one round trip. A box is suppressed by a better box of the same
class whose IoU with it is greater than the threshold (or whose centre is not further away than the radius).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit, prange

from perception3d.geometry.boxes import Array
from perception3d.geometry.iou import overlap_area


@njit(cache=True)
def _suppresses(a: np.ndarray, b: np.ndarray, circle: bool, bound: float, poly: np.ndarray, spare: np.ndarray) -> bool:
    if circle:
        dx, dy = a[0] - b[0], a[1] - b[1]
        return dx * dx + dy * dy <= bound
    area = overlap_area(a, b, poly, spare)
    return area > 0.0 and area > bound * (a[2] * a[3] + b[2] * b[3] - area)


@njit(cache=True)
def _greedy(bev: np.ndarray, circle: bool, bound: float, limit: int, keep: np.ndarray) -> None:
    """Marks in `keep` (N,) the survivors among boxes (N, 5) that are sorted by falling score; at most `limit`."""
    poly, spare = np.empty((12, 2)), np.empty((12, 2))
    kept = np.empty(bev.shape[0], np.int64)
    count = 0
    for i in range(bev.shape[0]):
        if count >= limit:
            break
        alive = True
        for k in range(count):
            if _suppresses(bev[kept[k]], bev[i], circle, bound, poly, spare):
                alive = False
                break
        if alive:
            keep[i] = True
            kept[count] = i
            count += 1


@njit(cache=True, parallel=True)
def _greedy_groups(
    bev: np.ndarray, starts: np.ndarray, circle: np.ndarray, bound: np.ndarray, limit: np.ndarray
) -> np.ndarray:
    keep = np.zeros(bev.shape[0], np.bool_)
    for group in prange(starts.shape[0] - 1):
        part = slice(starts[group], starts[group + 1])
        _greedy(bev[part], circle[group], bound[group], limit[group], keep[part])
    return keep


def nms_groups(
    bev: Array,
    scores: Array,
    labels: Array,
    bounds: Sequence[float],
    circle: Sequence[bool] | None = None,
    limits: Sequence[int] | None = None,
) -> Array:
    """Indices (K,), by falling score, of the boxes that survive suppression within their own class.

    Args:
        bev: (N, 5) bird's-eye boxes (x, y, l, w, yaw), metres and radians.
        scores: (N,) scores; boxes with NaN are dropped. Equal scores are taken in the order given.
        labels: (N,) class of each box, 0 .. C-1.
        bounds: for each class the IoU above which, or the squared distance (m^2) up to which, a box is suppressed.
        circle: for each class whether `bounds` is a squared distance; default no class.
        limits: for each class the largest number of survivors; default unlimited.
    """
    boxes = np.ascontiguousarray(_to_numpy(bev)[:, :5], np.float64)
    values, groups = _to_numpy(scores).astype(np.float64), _to_numpy(labels).astype(np.int64)
    usable = np.flatnonzero(np.isfinite(values) & np.isfinite(boxes).all(1))
    order = usable[np.lexsort((-values[usable], groups[usable]))]
    classes = len(bounds)
    starts = np.searchsorted(groups[order], np.arange(classes + 1))
    keep = _greedy_groups(
        boxes[order],
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
        from mmcv.ops import nms_rotated as cuda_nms

        return cuda_nms(bev[:, :5].float(), scores.float(), iou_threshold, labels)[1]
    if labels is None:
        labels = np.zeros(len(bev), np.int64)
    classes = int(labels.max()) + 1 if len(labels) else 1
    return nms_groups(bev, scores, labels, [iou_threshold] * classes)


def circle_nms(centers: Array, scores: Array, squared_distance: float, limit: int | None = None) -> Array:
    """Indices (K,) of centres (N, >=2) that have no better centre within sqrt(`squared_distance`) metres."""
    xy = _to_numpy(centers)[:, :2]
    bev = np.concatenate([xy, np.zeros((len(xy), 3), xy.dtype)], 1)
    limit = len(xy) if limit is None else limit
    chosen = nms_groups(bev, _to_numpy(scores), np.zeros(len(xy), np.int64), [squared_distance], [True], [limit])
    return torch.from_numpy(chosen).to(centers.device) if isinstance(centers, torch.Tensor) else chosen


def _to_numpy(array: Array) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
