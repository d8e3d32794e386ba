"""Exact overlap of rotated boxes in the bird's-eye view and in space.

One box is clipped by the other in the other's own axes (Sutherland and Hodgman 1974, against four axis-parallel lines),
in float64 and in coordinates relative to the two centres, so that large coordinates, slivers and coincident edges are
harmless. Pairs whose circumscribed circles or axis projections are apart are never clipped.

Boxes may be numpy arrays or torch tensors, and the answer is of the same kind. The work is done on the CPU by numba;
all-pairs IoU of CUDA tensors is left to mmcv's kernel.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit, prange

from perception3d.geometry.boxes import Array


@njit(cache=True)
def _clip(poly: np.ndarray, other: np.ndarray, count: int, axis: int, sign: float, bound: float) -> int:
    """Keeps the part of `poly` (count, 2) where sign * coordinate <= bound; writes it to `other`, returns its size."""
    kept = 0
    for i in range(count):
        k = i + 1 if i + 1 < count else 0
        a = sign * poly[i, axis] - bound
        b = sign * poly[k, axis] - bound
        if a <= 0.0:
            other[kept, 0] = poly[i, 0]
            other[kept, 1] = poly[i, 1]
            kept += 1
        if (a < 0.0 and b > 0.0) or (a > 0.0 and b < 0.0):
            t = a / (a - b)
            other[kept, 0] = poly[i, 0] + t * (poly[k, 0] - poly[i, 0])
            other[kept, 1] = poly[i, 1] + t * (poly[k, 1] - poly[i, 1])
            kept += 1
    return kept


@njit(cache=True)
def overlap_area(a: np.ndarray, b: np.ndarray, poly: np.ndarray, spare: np.ndarray) -> float:
    """Overlap in square metres of two bird's-eye boxes (x, y, l, w, yaw); `poly`, `spare` are (12, 2) float64 scratch.

    A numba function for use inside other kernels. Boxes without area overlap nothing.
    """
    if not (a[2] > 0.0 and a[3] > 0.0 and b[2] > 0.0 and b[3] > 0.0):
        return 0.0
    dx = float(b[0]) - float(a[0])
    dy = float(b[1]) - float(a[1])
    al, aw, bl, bw = a[2] * 0.5, a[3] * 0.5, b[2] * 0.5, b[3] * 0.5
    reach = math.sqrt(al * al + aw * aw) + math.sqrt(bl * bl + bw * bw)
    if not dx * dx + dy * dy < reach * reach:
        return 0.0
    ca, sa = math.cos(a[4]), math.sin(a[4])
    x, y = ca * dx + sa * dy, ca * dy - sa * dx
    turn = float(b[4]) - float(a[4])
    c, s = math.cos(turn), math.sin(turn)
    if abs(x) >= al + abs(c) * bl + abs(s) * bw or abs(y) >= aw + abs(s) * bl + abs(c) * bw:
        return 0.0
    if abs(c * x + s * y) >= bl + abs(c) * al + abs(s) * aw or abs(c * y - s * x) >= bw + abs(s) * al + abs(c) * aw:
        return 0.0
    for k in range(4):
        u = bl if k == 0 or k == 3 else -bl
        v = bw if k < 2 else -bw
        poly[k, 0] = x + c * u - s * v
        poly[k, 1] = y + s * u + c * v
    count = _clip(poly, spare, 4, 0, 1.0, al)
    count = _clip(spare, poly, count, 0, -1.0, al)
    count = _clip(poly, spare, count, 1, 1.0, aw)
    count = _clip(spare, poly, count, 1, -1.0, aw)
    twice = 0.0
    for k in range(1, count - 1):
        ux, uy = poly[k, 0] - poly[0, 0], poly[k, 1] - poly[0, 1]
        vx, vy = poly[k + 1, 0] - poly[0, 0], poly[k + 1, 1] - poly[0, 1]
        twice += ux * vy - uy * vx
    return abs(twice) * 0.5


@njit(cache=True, parallel=True)
def _all_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    out = np.zeros((first.shape[0], second.shape[0]), np.float64)
    # Columns of their own let the compiler test several pairs for distance at once.
    x, y = second[:, 0].copy(), second[:, 1].copy()
    radius = np.hypot(second[:, 2], second[:, 3]) * 0.5
    for i in prange(first.shape[0]):
        poly, spare = np.empty((12, 2)), np.empty((12, 2))
        near = np.empty(second.shape[0], np.bool_)
        own = math.hypot(first[i, 2], first[i, 3]) * 0.5
        for k in range(second.shape[0]):
            dx, dy, reach = x[k] - first[i, 0], y[k] - first[i, 1], radius[k] + own
            near[k] = dx * dx + dy * dy < reach * reach
        for k in range(second.shape[0]):
            if near[k]:
                out[i, k] = overlap_area(first[i], second[k], poly, spare)
    return out


@njit(cache=True, parallel=True)
def _each_pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    out = np.zeros(first.shape[0], np.float64)
    for i in prange(first.shape[0]):
        poly, spare = np.empty((12, 2)), np.empty((12, 2))
        out[i] = overlap_area(first[i], second[i], poly, spare)
    return out


def _as_float64(boxes: Array, columns: int) -> np.ndarray:
    if isinstance(boxes, torch.Tensor):
        boxes = boxes.detach().cpu().numpy()
    return np.ascontiguousarray(np.asarray(boxes)[:, :columns], dtype=np.float64)


def _like(result: np.ndarray, model: Array) -> Array:
    if isinstance(model, torch.Tensor):
        return torch.from_numpy(result).to(model)
    model = np.asarray(model)
    return result.astype(model.dtype if model.dtype.kind == 'f' else np.float64)


def bev_overlap(first: Array, second: Array, aligned: bool = False) -> Array:
    """Overlap areas (N, M) in square metres of bird's-eye boxes (N, 5) and (M, 5); (N,) pair by pair if `aligned`."""
    kernel = _each_pair if aligned else _all_pairs
    return _like(kernel(_as_float64(first, 5), _as_float64(second, 5)), first)


def bev_iou(first: Array, second: Array, aligned: bool = False) -> Array:
    """IoU (N, M) of bird's-eye boxes (x, y, l, w, yaw) (N, 5) and (M, 5); (N,) pair by pair if `aligned`."""
    if isinstance(first, torch.Tensor) and first.is_cuda:
        from mmcv.ops import box_iou_rotated

        return box_iou_rotated(first.float(), second.float(), aligned=aligned).to(first)
    a, b = _as_float64(first, 5), _as_float64(second, 5)
    overlap = (_each_pair if aligned else _all_pairs)(a, b)
    return _like(_ratio(overlap, a[:, 2] * a[:, 3], b[:, 2] * b[:, 3], aligned), first)


def box_iou(first: Array, second: Array, aligned: bool = False) -> Array:
    """IoU of volumes (N, M) of boxes (x, y, z_bottom, l, w, h, yaw) (N, >=7) and (M, >=7); (N,) if `aligned`."""
    a, b = _as_float64(first, 7), _as_float64(second, 7)
    columns = [0, 1, 3, 4, 6]
    area = (_each_pair if aligned else _all_pairs)(a[:, columns].copy(), b[:, columns].copy())
    low_a, low_b = (a[:, 2], b[:, 2]) if aligned else (a[:, None, 2], b[None, :, 2])
    top_a, top_b = (a[:, 2] + a[:, 5], b[:, 2] + b[:, 5])
    if not aligned:
        top_a, top_b = top_a[:, None], top_b[None]
    overlap = area * np.clip(np.minimum(top_a, top_b) - np.maximum(low_a, low_b), 0, None)
    return _like(_ratio(overlap, np.prod(a[:, 3:6], 1), np.prod(b[:, 3:6], 1), aligned), first)


def _ratio(overlap: np.ndarray, first: np.ndarray, second: np.ndarray, aligned: bool) -> np.ndarray:
    union = (first + second if aligned else first[:, None] + second[None]) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=overlap > 0)
