"""Lookup tables from voxels to pixels: which image position every voxel of a grid reads (Fast-BEV, arXiv 2301.12511).

A table entry is (camera * H + row) * W + column of the feature map, or -1 where no camera sees the voxel. Arithmetic is
float32 in a fixed order and rounding is half to even, as torch.round does, so that the numba kernel, the torch path and
the released model agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import njit, prange

from perception3d.checks import InputError
from perception3d.geometry.boxes import Array
from perception3d.geometry.grid import VoxelGrid
from perception3d.geometry.threads import share_threads_with_torch

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32] | npt.NDArray[np.int64]

PRIORITIES = ('last', 'first', 'mean')
# Columns of voxels that are looked at together before they are one by one.
_BLOCK = 8


def scale_to_features(
    img_from_lidar: npt.NDArray[Any], image_hw: tuple[int, int], feature_hw: tuple[int, int]
) -> Floats:
    """Returns projections (..., 3, 4) float32 into a feature map from those into its image (..., 3|4, 4).

    The stride is ceil(image width / feature width) for both axes, with no half-pixel shift.
    """
    stride = math.ceil(image_hw[1] / feature_hw[1])
    projection = np.array(img_from_lidar[..., :3, :], dtype=np.float32)
    projection[..., :2, :] /= np.float32(stride)
    return projection


def valid_part(image_hw: tuple[int, int], valid_hw: tuple[int, int], feature_hw: tuple[int, int]) -> tuple[int, int]:
    """The part of a feature map that shows image and no padding."""
    stride = math.ceil(image_hw[1] / feature_hw[1])
    return min(math.ceil(valid_hw[0] / stride), feature_hw[0]), min(math.ceil(valid_hw[1] / stride), feature_hw[1])


def build_lut(
    img_from_lidar: Array,
    grid: VoxelGrid,
    feature_hw: tuple[int, int],
    priority: str = 'last',
    valid_hw: tuple[int, int] | None = None,
) -> Array:
    """Builds the table of one frame: for every voxel the flat feature index that it reads, or -1.

    Args:
        img_from_lidar: (C, 3|4, 4) projections from metres in the LiDAR frame to pixels of the feature maps (see
            `scale_to_features`).
        grid: voxels, sampled at their lower corners.
        feature_hw: (H, W) of the feature maps.
        priority: which camera a voxel reads when several see it. 'last' is what Fast-BEV trains with, 'first' what its
            C++ code does, 'mean' keeps all of them.
        valid_hw: part of the feature map that holds image, where the image was padded; all of it by default.

    Returns:
        (X, Y, Z) int32; for 'mean' (X, Y, Z, K) with the indices of all cameras that see the voxel first, then -1.
        A tensor on the device of `img_from_lidar` if that is one, else an array.
    """
    valid_hw = valid_hw or feature_hw
    if priority == 'mean':
        return _candidate_lut(img_from_lidar, grid, feature_hw, valid_hw)
    table: Array = build_frames_lut(img_from_lidar[None], grid, feature_hw, priority, valid_hw)[..., 0]
    return table


def build_frames_lut(
    img_from_lidar: Array,
    grid: VoxelGrid,
    feature_hw: tuple[int, int],
    priority: str = 'last',
    valid_hw: tuple[int, int] | None = None,
    first_rows: npt.NDArray[Any] | None = None,
    out: Array | None = None,
) -> Array:
    """Builds the tables of several frames interleaved, in the order in which the gather writes: (X, Y, Z, F) int32.

    Args:
        img_from_lidar: (F, C, 3|4, 4) projections of every frame and camera to feature-map pixels.
        grid: voxels, sampled at their lower corners.
        feature_hw: (H, W) of the feature maps.
        priority: 'last' or 'first'.
        valid_hw: part of the feature map that holds image; all of it by default.
        first_rows: (F, C) index of each feature map's first pixel in the gathered rows; (f * C + c) * H * W by default.
        out: (X, Y, Z, F) int32 to write into, of any strides.

    InputError on a priority or a shape that does not fit.
    """
    frames, cameras = _check(img_from_lidar, priority)
    if first_rows is None:
        first_rows = (
            np.arange(frames * cameras, dtype=np.int64).reshape(frames, cameras) * feature_hw[0] * feature_hw[1]
        )
    valid_hw = valid_hw or feature_hw
    if isinstance(img_from_lidar, torch.Tensor) and img_from_lidar.is_cuda:
        return _frames_lut_torch(img_from_lidar, grid, feature_hw, priority, valid_hw, first_rows, out)
    table = np.empty((*grid.shape, frames), np.int32) if out is None else np.asarray(out)
    matrices = np.ascontiguousarray(np.asarray(img_from_lidar)[:, :, :3], np.float32)
    order = np.arange(cameras)[:: -1 if priority == 'last' else 1]
    bounds = np.asarray(valid_hw, np.int64)
    share_threads_with_torch()
    _fill_table(matrices, order, np.asarray(first_rows, np.int64), *grid.axes(), bounds, feature_hw[1], table)
    if out is not None:
        return out
    return torch.from_numpy(table) if isinstance(img_from_lidar, torch.Tensor) else table


class MapView(NamedTuple):
    """Where the feature maps of the cameras of B samples lie: in space, and in the rows of all maps.

    `img_from_lidar` (B, C, 3|4, 4) are the projections of every sample and camera to pixels of the maps, `feature_hw`
    (H, W) the size of a map, `valid_hw` that of its part that holds image, `first_rows` (B, C) the row of each map's
    first pixel.
    """

    img_from_lidar: npt.NDArray[Any]
    feature_hw: tuple[int, int]
    valid_hw: tuple[int, int]
    first_rows: npt.NDArray[Any]


def find_overlaps(views: Sequence[MapView], grid: VoxelGrid) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Finds the voxels that two cameras of a sample see in both of two views: their pixels in first and last camera.

    Args:
        views: two, of equal samples and cameras.
        grid: voxels, sampled at their lower corners.

    Returns:
        rows (B, X, Y*Z, 4) int32: first and last camera in the first view, first and last in the second; counts (B, X)
        int32: of the rows of a slice, those that hold a voxel, in the order of the grid. The others are not set.

    InputError on projections that do not fit.
    """
    for view in views:
        _check(view.img_from_lidar, 'first')
    shapes = [view.img_from_lidar.shape[:2] for view in views]
    if len(shapes) != 2 or shapes[0] != shapes[1]:
        raise InputError(f'overlaps need two views of equal samples and cameras, got {shapes}')
    matrices = np.stack([view.img_from_lidar[:, :, :3] for view in views]).astype(np.float32, copy=False)
    widths = np.array([view.feature_hw[1] for view in views], np.int64)
    bounds = np.array([view.valid_hw for view in views], np.int64)
    starts = np.stack([view.first_rows for view in views]).astype(np.int64, copy=False)
    x, y, z = grid.shape
    rows, counts = np.empty((shapes[0][0], x, y * z, 4), np.int32), np.empty((shapes[0][0], x), np.int32)
    share_threads_with_torch()
    _fill_overlaps(matrices, starts, *grid.axes(), bounds, widths, rows, counts)
    return rows, counts


def _check(img_from_lidar: Array, priority: str) -> tuple[int, int]:
    if priority not in PRIORITIES[:2]:
        raise InputError(f'unknown priority {priority!r}: expected last or first, or mean for the table of one frame')
    if img_from_lidar.ndim != 4 or img_from_lidar.shape[2] not in (3, 4) or img_from_lidar.shape[3] != 4:
        raise InputError(f'projections must be (frames, cameras, 3 or 4, 4), got {tuple(img_from_lidar.shape)}')
    return int(img_from_lidar.shape[0]), int(img_from_lidar.shape[1])


@njit(cache=True, inline='always', error_model='numpy')
def _plane(m: Floats, x: float, y: float) -> tuple[float, float, float]:
    """The part of a projection (numerators of u and v, depth) that does not depend on z."""
    return m[0, 0] * x + m[0, 1] * y, m[1, 0] * x + m[1, 1] * y, m[2, 0] * x + m[2, 1] * y


@njit(cache=True, inline='always', error_model='numpy')
def _is_out_of_view(m: Floats, a0: float, d0: float, low: float, high: float, width: np.float32) -> bool:
    """Tells whether a column from `low` to `high` cannot be seen: all is linear in z, so both ends decide."""
    d1, d2 = d0 + m[2, 2] * low + m[2, 3], d0 + m[2, 2] * high + m[2, 3]
    if d1 <= 0 and d2 <= 0:
        return True
    a1, a2 = a0 + m[0, 2] * low + m[0, 3], a0 + m[0, 2] * high + m[0, 3]
    aside: bool = (a1 < -d1 and a2 < -d2) or (a1 > width * d1 and a2 > width * d2)
    return aside


@njit(cache=True, inline='always', error_model='numpy')
def _is_block_out_of_view(
    m: Floats, x: float, left: float, right: float, low: float, high: float, width: np.float32
) -> bool:
    """Tells whether no column from y = `left` to `right` can be seen: all is linear in y and z, so corners decide."""
    behind, before, past = True, True, True
    for y in (left, right):
        a0, _, d0 = _plane(m, x, y)
        for z in (low, high):
            a, d = a0 + m[0, 2] * z + m[0, 3], d0 + m[2, 2] * z + m[2, 3]
            behind, before, past = behind and d <= 0, before and a < -d, past and a > width * d
    return behind or before or past


@njit(cache=True, inline='always', error_model='numpy')
def _pixel(
    m: Floats, a0: float, b0: float, d0: float, z: float, width: np.float32, height: np.float32, row_length: int
) -> int | np.int64:
    """Index of the pixel that a voxel falls on, or -1."""
    zero = np.float32(0)
    depth = (d0 + m[2, 2] * z) + m[2, 3]
    if not depth > zero:
        return -1
    a = (a0 + m[0, 2] * z) + m[0, 3]
    # Generous bounds first, to divide for few pairs of voxel and camera.
    if a < -depth or a > width * depth:
        return -1
    b = (b0 + m[1, 2] * z) + m[1, 3]
    if b < -depth or b > height * depth:
        return -1
    u, v = np.rint(a / depth), np.rint(b / depth)
    if u >= zero and u < width and v >= zero and v < height:
        return np.int64(v) * row_length + np.int64(u)
    return -1


@njit(cache=True, parallel=True, error_model='numpy')
def _fill_table(
    matrices: Floats, order: Indices, first_rows: Indices, xs: Floats, ys: Floats, zs: Floats, bounds: Indices,
    row_length: int, table: Indices,
) -> None:  # fmt: skip
    frames, cameras = first_rows.shape
    height, width = np.float32(bounds[0]), np.float32(bounds[1])
    for i in prange(xs.size):
        for j in range(ys.size):
            for f in range(frames):
                for k in range(zs.size):
                    table[i, j, k, f] = -1
                left = zs.size
                for n in range(cameras):
                    if left == 0:
                        break
                    cam = order[n]
                    m = matrices[f, cam]
                    a0, b0, d0 = _plane(m, xs[i], ys[j])
                    if _is_out_of_view(m, a0, d0, zs[0], zs[-1], width):
                        continue
                    for k in range(zs.size):
                        if table[i, j, k, f] >= 0:
                            continue
                        pixel = _pixel(m, a0, b0, d0, zs[k], width, height, row_length)
                        if pixel >= 0:
                            table[i, j, k, f] = first_rows[f, cam] + pixel
                            left -= 1


@njit(cache=True, error_model='numpy')
def _see_slice(
    m: Floats, start_row: int, x: float, ys: Floats, zs: Floats, height: np.float32, width: np.float32, row_length: int,
    view: int, seen: Indices,
) -> None:  # fmt: skip
    """Enters the pixels of one camera's view of the voxels at `x` into `seen` (Y, Z, 4)."""
    for start in range(0, ys.size, _BLOCK):
        stop = min(start + _BLOCK, ys.size)
        if _is_block_out_of_view(m, x, ys[start], ys[stop - 1], zs[0], zs[-1], width):
            continue
        for j in range(start, stop):
            a0, b0, d0 = _plane(m, x, ys[j])
            if _is_out_of_view(m, a0, d0, zs[0], zs[-1], width):
                continue
            for k in range(zs.size):
                # What the first view does not see twice need not be looked at in the second.
                if view == 1 and seen[j, k, 0] == seen[j, k, 1]:
                    continue
                pixel = _pixel(m, a0, b0, d0, zs[k], width, height, row_length)
                if pixel >= 0:
                    seen[j, k, 2 * view + 1] = start_row + pixel
                    if seen[j, k, 2 * view] < 0:
                        seen[j, k, 2 * view] = start_row + pixel


@njit(cache=True, parallel=True, error_model='numpy')
def _fill_overlaps(
    matrices: Floats, starts: Indices, xs: Floats, ys: Floats, zs: Floats, bounds: Indices, widths: Indices,
    rows: Indices, counts: Indices,
) -> None:  # fmt: skip
    _, samples, cameras = starts.shape
    for job in prange(samples * xs.size):
        sample, i = job // xs.size, job % xs.size
        seen = np.full((ys.size, zs.size, 4), -1, np.int32)
        for view in range(2):
            height, width = np.float32(bounds[view, 0]), np.float32(bounds[view, 1])
            for n in range(cameras):
                m, start_row = matrices[view, sample, n], starts[view, sample, n]
                _see_slice(m, start_row, xs[i], ys, zs, height, width, widths[view], view, seen)
        count = 0
        for j in range(ys.size):
            for k in range(zs.size):
                # Where the first camera that sees a voxel is also the last, it is the only one.
                if seen[j, k, 0] != seen[j, k, 1] and seen[j, k, 2] != seen[j, k, 3]:
                    rows[sample, i, count] = seen[j, k]
                    count += 1
        counts[sample, i] = count


def _project_torch(
    matrices: torch.Tensor, grid: VoxelGrid, valid_hw: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns rows v, columns u (int64) and validity, each (C, X, Y, Z), in the operation order of the kernel."""
    xs, ys, zs = (torch.from_numpy(axis).to(matrices.device) for axis in grid.axes())
    m = matrices[:, :3].float()[:, :, :, None, None, None]
    plane = m[:, :, 0] * xs[:, None, None] + m[:, :, 1] * ys[:, None]
    a, b, depth = ((plane + m[:, :, 2] * zs) + m[:, :, 3]).unbind(1)
    u, v = torch.round(a / depth), torch.round(b / depth)
    valid = (u >= 0) & (u < valid_hw[1]) & (v >= 0) & (v < valid_hw[0]) & (depth > 0)
    zero = torch.zeros((), device=u.device)
    return torch.where(valid, v, zero).long(), torch.where(valid, u, zero).long(), valid


def _frames_lut_torch(
    img_from_lidar: torch.Tensor,
    grid: VoxelGrid,
    feature_hw: tuple[int, int],
    priority: str,
    valid_hw: tuple[int, int],
    first_rows: npt.NDArray[Any],
    out: torch.Tensor | None,
) -> torch.Tensor:
    """The table of `build_frames_lut` by torch operations, without waiting for the device."""
    device, cameras = img_from_lidar.device, img_from_lidar.shape[1]
    table = torch.empty((*grid.shape, len(img_from_lidar)), dtype=torch.int32, device=device) if out is None else out
    starts = torch.from_numpy(np.asarray(first_rows, np.int64)).to(device)
    rank = torch.arange(1, cameras + 1, device=device)
    if priority == 'first':
        rank = rank.flip(0)
    for frame, matrices in enumerate(img_from_lidar):
        v, u, valid = _project_torch(matrices, grid, valid_hw)
        rows = starts[frame, :, None, None, None] + v * feature_hw[1] + u
        best, camera = (valid * rank[:, None, None, None]).max(0)
        row = rows.gather(0, camera[None])[0]
        table[..., frame] = torch.where(best > 0, row, -1).to(torch.int32)
    return table


def _candidate_lut(
    img_from_lidar: Array, grid: VoxelGrid, feature_hw: tuple[int, int], valid_hw: tuple[int, int]
) -> Array:
    """All cameras that see a voxel, (X, Y, Z, K) int32, valid ones first in camera order; K is what a voxel needs."""
    _check(img_from_lidar[None], 'last')
    if not isinstance(img_from_lidar, torch.Tensor):
        matrices = torch.from_numpy(np.asarray(img_from_lidar, np.float32))
        return _candidate_lut(matrices, grid, feature_hw, valid_hw).numpy()
    matrices = img_from_lidar
    v, u, valid = _project_torch(matrices, grid, valid_hw)
    camera = torch.arange(len(matrices), device=matrices.device)[:, None, None, None]
    rows = torch.where(valid, (camera * feature_hw[0] + v) * feature_hw[1] + u, -1)
    order = (~valid).to(torch.uint8).argsort(dim=0, stable=True)
    table = rows.gather(0, order).permute(1, 2, 3, 0)
    if not table.is_cuda:
        table = table[..., : max(int(valid.sum(0).max()), 1)]
    return table.to(torch.int32).contiguous()
