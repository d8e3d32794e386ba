"""Exact overlap of rotated boxes in the bird's-eye view and in space.

The overlap of a pair is computed by the kernels of `geometry/overlap.py`. Boxes may be numpy arrays or torch tensors,
and the result has the same type; half types are computed as float32 or better. The work is done on the CPU by numba;
IoU of CUDA tensors in the bird's-eye view is left to mmcv's kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit, prange

from perception3d.geometry.boxes import Array
from perception3d.geometry.overlap import Floats, overlap_area, prepare
from perception3d.geometry.threads import share_threads_with_torch

_PARALLEL_PAIRS = 200_000


@njit(cache=True)
def _compare(a: Floats, b: Floats, ratio: bool, poly: Floats, spare: Floats) -> float:
    """Common volume of two prepared rows, or their IoU if `ratio`."""
    tall = min(a[8], b[8]) - max(a[7], b[7])
    if not tall > 0.0:
        return 0.0
    both: float = overlap_area(a, b, poly, spare) * tall
    if ratio and both > 0.0:
        both /= a[9] + b[9] - both
    return both


@njit(cache=True)
def _one_row(box: Floats, others: Floats, columns: Floats, ratio: bool, out: npt.NDArray[Any]) -> None:
    """Fills `out` (M,) for one prepared box and `others` (M, 10); `columns` (3, M) are their x, y and radius."""
    poly, spare = np.empty((12, 2)), np.empty((12, 2))
    near = np.empty(others.shape[0], np.bool_)
    # A plain loop over columns lets the compiler test several pairs for distance at once.
    for k in range(others.shape[0]):
        dx, dy, reach = columns[0, k] - box[0], columns[1, k] - box[1], columns[2, k] + box[6]
        near[k] = (dx * dx + dy * dy < reach * reach) & (reach > 0.0)
    for k in range(others.shape[0]):
        out[k] = _compare(box, others[k], ratio, poly, spare) if near[k] else 0.0


@njit(cache=True)
def _all_pairs_serial(first: Floats, second: Floats, ratio: bool, out: npt.NDArray[Any]) -> None:
    columns = np.stack((second[:, 0], second[:, 1], second[:, 6]))
    for i in range(first.shape[0]):
        _one_row(first[i], second, columns, ratio, out[i])


@njit(cache=True, parallel=True)
def _all_pairs_parallel(first: Floats, second: Floats, ratio: bool, out: npt.NDArray[Any]) -> None:
    columns = np.stack((second[:, 0], second[:, 1], second[:, 6]))
    for i in prange(first.shape[0]):
        _one_row(first[i], second, columns, ratio, out[i])


@njit(cache=True)
def _each_pair(first: Floats, second: Floats, ratio: bool, out: npt.NDArray[Any]) -> None:
    poly, spare = np.empty((12, 2)), np.empty((12, 2))
    for i in range(first.shape[0]):
        out[i] = _compare(first[i], second[i], ratio, poly, spare)


def to_numpy(array: Any) -> npt.NDArray[Any]:
    """Returns what numpy takes, or a tensor of any device, as an array; half types become float32, others stay."""
    if not isinstance(array, torch.Tensor):
        return np.asarray(array)
    array = array.detach().cpu()
    values: npt.NDArray[Any] = (array.float() if array.dtype in (torch.bfloat16, torch.float16) else array).numpy()
    return values


def prepare_flat(bev: npt.NDArray[Any]) -> Floats:
    """Rows of `prepare` for bird's-eye boxes (N, 5): as if each were one metre high."""
    bev = np.ascontiguousarray(bev[:, :5], np.float64)
    return prepare(bev, np.zeros(len(bev)), np.ones(len(bev)))


def _prepare_boxes(boxes: npt.NDArray[Any]) -> Floats:
    boxes = np.asarray(boxes[:, :7], np.float64)
    bev = np.ascontiguousarray(boxes[:, [0, 1, 3, 4, 6]])
    return prepare(bev, boxes[:, 2].copy(), boxes[:, 2] + boxes[:, 5])


def _run(first: Array, second: Array, aligned: bool, flat: bool, ratio: bool) -> Array:
    arrays = [to_numpy(first), to_numpy(second)]
    a, b = ((prepare_flat if flat else _prepare_boxes)(array) for array in arrays)
    dtype = arrays[0].dtype if arrays[0].dtype in (np.float32, np.float64) else np.float64
    out = np.empty(len(a) if aligned else (len(a), len(b)), dtype)
    if aligned:
        _each_pair(a, b, ratio, out)
    # Below a few milliseconds of work a second pool of threads costs more than it gives, all the more next to torch's.
    elif out.size > _PARALLEL_PAIRS:
        share_threads_with_torch()
        _all_pairs_parallel(a, b, ratio, out)
    else:
        _all_pairs_serial(a, b, ratio, out)
    return torch.from_numpy(out).to(first) if isinstance(first, torch.Tensor) else out


def bev_overlap(first: Array, second: Array, aligned: bool = False) -> Array:
    """Overlap areas (N, M) in square metres of bird's-eye boxes (N, 5) and (M, 5); (N,) pair by pair if `aligned`."""
    return _run(first, second, aligned, flat=True, ratio=False)


def bev_iou(first: Array, second: Array, aligned: bool = False) -> Array:
    """IoU (N, M) of bird's-eye boxes (x, y, l, w, yaw) (N, 5) and (M, 5); (N,) pair by pair if `aligned`.

    >>> car, turned = np.array([[10, 0, 4, 2, 0]]), np.array([[10, 0, 4, 2, np.pi / 2]])
    >>> bev_iou(car, turned).round(3)
    array([[0.333]])
    """
    if isinstance(first, torch.Tensor) and first.is_cuda:
        from mmcv.ops import box_iou_rotated

        iou: Array = box_iou_rotated(first.float(), second.float(), aligned=aligned).to(first)
        return iou
    return _run(first, second, aligned, flat=True, ratio=True)


def box_iou(first: Array, second: Array, aligned: bool = False) -> Array:
    """IoU of volumes (N, M) of boxes (x, y, z_bottom, l, w, h, yaw) (N, >=7) and (M, >=7); (N,) if `aligned`."""
    return _run(first, second, aligned, flat=False, ratio=True)
