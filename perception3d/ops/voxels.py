"""Points to voxels: hard (first points of each voxel, padded), dynamic (a cell a point), and pooling by cell.

On the CPU numba does the work, and hard voxels are those of mmcv's deterministic kernel bit for bit: voxels in the
order of their first point, points in the order given, the same rounding in float32. Cells are looked up in a hash table
as large as the points need, not in a grid of the whole range (360 MB a frame for SECOND). CUDA tensors go to mmcv.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from numba import njit, prange
from torch import Tensor

from perception3d.checks import InputError, unknown_name
from perception3d.geometry.threads import share_threads_with_torch
from perception3d.ops.scatter import gather_rows, scatter_add_rows

_REDUCTIONS = ('sum', 'mean', 'max')
# Up to here a table with an entry for every cell is smaller than the caches, and cheaper than hashing.
_SMALL_GRID_CELLS = 1 << 19


def grid_size(voxel_size: Sequence[float], point_range: Sequence[float]) -> tuple[int, int, int]:
    """Number of cells along x, y and z of a range (x0, y0, z0, x1, y1, z1) in metres, rounded as mmcv rounds it."""
    size, span = np.asarray(voxel_size, np.float32), np.asarray(point_range, np.float32)
    if size.shape != (3,) or span.shape != (6,):
        raise InputError(f'expected 3 voxel sizes and a range of 6 numbers, got {size.size} and {span.size}')
    cells = np.floor(((span[3:] - span[:3]) / size).astype(np.float64) + 0.5)
    if not (np.isfinite(cells).all() and (cells >= 1).all()):
        raise InputError(f'voxels of {size.tolist()} m do not fill the range {span.tolist()}')
    x, y, z = (int(n) for n in cells)
    return x, y, z


# One thread, here and below: it takes a millisecond or two, and workers of a data loader, which must not start
# threads after a fork, may call it.
@njit(cache=True)
def _cells_of_points(
    points: npt.NDArray[Any],
    size: npt.NDArray[Any],
    low: npt.NDArray[Any],
    grid: npt.NDArray[Any],
    cells: npt.NDArray[Any],
) -> None:
    """Writes the flat cell (z, y, x) of each point, -1 outside the range; NaN fails every comparison."""
    limit_x, limit_y, limit_z = np.float32(grid[0]), np.float32(grid[1]), np.float32(grid[2])
    for i in range(points.shape[0]):
        x = (points[i, 0] - low[0]) / size[0]
        y = (points[i, 1] - low[1]) / size[1]
        z = (points[i, 2] - low[2]) / size[2]
        inside = (x >= 0) & (x < limit_x) & (y >= 0) & (y < limit_y) & (z >= 0) & (z < limit_z)
        cells[i] = (np.int64(z) * grid[1] + np.int64(y)) * grid[0] + np.int64(x) if inside else -1


@njit(cache=True)
def _number_cells(
    cells: npt.NDArray[Any], bits: int, hashed: bool, voxel_cell: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], int]:
    """Numbers distinct cells in the order in which they appear; -1 for cells of -1 and after `voxel_cell` is full.

    `voxel_cell` (V,) receives the cell of each number. The table has 2**bits entries, or one a cell if not `hashed`.
    """
    voxel_at = np.full(1 << bits, -1, np.int32)
    numbers = np.empty(cells.shape[0], np.int32)
    mask, shift, voxels = (1 << bits) - 1, np.uint64(64 - bits), 0
    for i in range(cells.shape[0]):
        numbers[i] = -1
        cell = cells[i]
        if cell < 0:
            continue
        place = cell
        if hashed:
            place = np.int64((np.uint64(cell) * np.uint64(0x9E3779B97F4A7C15)) >> shift)
            while voxel_at[place] >= 0 and voxel_cell[voxel_at[place]] != cell:
                place = (place + 1) & mask
        if voxel_at[place] < 0:
            if voxels >= voxel_cell.shape[0]:
                continue
            voxel_at[place], voxel_cell[voxels] = voxels, cell
            voxels += 1
        numbers[i] = voxel_at[place]
    return numbers, voxels


@njit(cache=True)
def _fill_voxels(
    points: npt.NDArray[Any], numbers: npt.NDArray[Any], voxels: npt.NDArray[Any], count: npt.NDArray[Any]
) -> None:
    """Copies the first points of each voxel into zeros `voxels` (V, max_points, F) and counts them in zeros `count`."""
    for i in range(numbers.shape[0]):
        voxel = numbers[i]
        if voxel >= 0 and count[voxel] < voxels.shape[1]:
            for k in range(points.shape[1]):
                voxels[voxel, count[voxel], k] = points[i, k]
            count[voxel] += 1


@njit(cache=True)
def _unflatten(cells: npt.NDArray[Any], grid: npt.NDArray[Any], coords: npt.NDArray[Any]) -> None:
    """Writes coordinates (N, 3) as z, y, x of flat cells (N,); -1, -1, -1 for -1."""
    for i in range(cells.shape[0]):
        if cells[i] < 0:
            coords[i] = -1
        else:
            row = cells[i] // grid[0]
            coords[i, 0], coords[i, 1], coords[i, 2] = row // grid[1], row % grid[1], cells[i] - row * grid[0]


def _number(cells: npt.NDArray[Any], num_cells: int, most: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Numbers (N,) int32 of the cells (N,) int64 below `num_cells`, at most `most` of them, and the cell of each."""
    hashed = num_cells > _SMALL_GRID_CELLS
    most = max(1, min(most, len(cells)))
    entries = 2 * most if hashed else num_cells
    cell_of = np.empty(most, np.int64)
    numbers, found = _number_cells(cells, max(1, (entries - 1).bit_length()), hashed, cell_of)
    return numbers, cell_of[:found]


def _point_cells(
    points: Tensor, voxel_size: Sequence[float], point_range: Sequence[float]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Points as an array, their flat cells (N,) int64, and the grid (x, y, z)."""
    grid = np.array(grid_size(voxel_size, point_range), np.int64)
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype != torch.float32:
        raise InputError(f'points must be (N, >=3) float32, got {tuple(points.shape)} {points.dtype}')
    array = points.detach().numpy()
    cells = np.empty(len(array), np.int64)
    size, low = np.asarray(voxel_size, np.float32), np.asarray(point_range, np.float32)[:3].copy()
    _cells_of_points(array, size, low, grid, cells)
    return array, cells, grid


def hard_voxelize(
    points: Tensor, voxel_size: Sequence[float], point_range: Sequence[float], max_points: int, max_voxels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Voxels (V, max_points, F), their coordinates (V, 3) int32 as z, y, x, and their numbers of points (V,) int32.

    Voxels come in the order of their first point and hold their first `max_points` points, padded with zeros; points of
    further voxels than `max_voxels` are dropped, and so are points outside the range or not finite in x, y, z.

    Args:
        points: (N, F) float32, x, y, z in metres first.
        voxel_size: x, y, z in metres.
        point_range: x0, y0, z0, x1, y1, z1 in metres; the upper bounds are outside.
        max_points: points kept of a voxel.
        max_voxels: voxels kept of a cloud.
    """
    if max_points < 1 or max_voxels < 1:
        raise InputError(f'a hard voxel layer keeps 1 or more points and voxels, got {max_points} and {max_voxels}')
    if points.is_cuda:
        from mmcv.ops.voxelize import voxelization

        return voxelization(points, voxel_size, point_range, max_points, max_voxels, True)
    array, cells, grid = _point_cells(points, voxel_size, point_range)
    numbers, cell_of = _number(cells, int(grid.prod()), max_voxels)
    voxels = np.zeros((len(cell_of), max_points, array.shape[1]), np.float32)
    coords, count = np.empty((len(cell_of), 3), np.int32), np.zeros(len(cell_of), np.int32)
    _fill_voxels(array, numbers, voxels, count)
    _unflatten(cell_of, grid, coords)
    return torch.from_numpy(voxels), torch.from_numpy(coords), torch.from_numpy(count)


def dynamic_voxelize(points: Tensor, voxel_size: Sequence[float], point_range: Sequence[float]) -> Tensor:
    """Cell (N, 3) int32 as z, y, x of each point (N, >=3) float32; -1, -1, -1 outside the range."""
    if points.is_cuda:
        from mmcv.ops.voxelize import voxelization

        return voxelization(points, voxel_size, point_range, -1, -1)
    _, cells, grid = _point_cells(points, voxel_size, point_range)
    coords = np.empty((len(cells), 3), np.int32)
    _unflatten(cells, grid, coords)
    return torch.from_numpy(coords)


def unique_voxels(coords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct rows of coordinates (N, D), the row of each point, and the number of points of each row.

    Returns:
        Tuple of the distinct rows (V, D) in lexical order, for each point its row (N,) int32, and (V,) int32 counts.
        Points with a negative coordinate belong to no row: -1.
    """
    spans = (coords.amax(0).long().clamp_(min=0) + 1).tolist() if len(coords) else [1] * coords.shape[1]
    if float(np.prod(spans, dtype=np.float64)) >= 2**62:
        raise InputError(f'coordinates up to {[n - 1 for n in spans]} are too large to be numbered')
    # One number a row: finding and sorting numbers is many times cheaper than sorting rows.
    cells = torch.zeros(len(coords), dtype=torch.int64)
    for axis, span in enumerate(spans):
        cells = cells * span + coords[:, axis]
    cells[(coords < 0).any(1)] = -1
    numbers, cell_of = _number(cells.numpy(), int(np.prod(spans)), len(cells))
    order = np.argsort(cell_of)
    rank = np.empty(len(order) + 1, np.int32)
    rank[order], rank[-1] = np.arange(len(order), dtype=np.int32), -1
    row, found = rank[numbers], cell_of[order]
    count = np.bincount(row[row >= 0], minlength=len(order)).astype(np.int32)
    columns = []
    for span in reversed(spans):
        columns.append(found % span)
        found = found // span
    rows = torch.from_numpy(np.stack(columns[::-1], 1)).to(coords.dtype)
    return rows, torch.from_numpy(row), torch.from_numpy(count)


@njit(cache=True, parallel=True)
def _max_rows(
    values: npt.NDArray[Any], row_of: npt.NDArray[Any], best: npt.NDArray[Any], winner: npt.NDArray[Any], parts: int
) -> None:
    # Each part owns a range of rows and reads all values, in order: the first of equal values wins on any machine.
    for part in prange(parts):
        low, high = best.shape[0] * part // parts, best.shape[0] * (part + 1) // parts
        for n in range(values.shape[0]):
            row = row_of[n]
            if row >= low and row < high:
                for k in range(values.shape[1]):
                    # Without a branch, so that the compiler compares several channels at once.
                    better = values[n, k] > best[row, k]
                    best[row, k] = values[n, k] if better else best[row, k]
                    winner[row, k] = np.int32(n) if better else winner[row, k]


def max_by_row(values: Tensor, row: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """Largest value (num_rows, C) of each row and the first point (num_rows, C) int32 that has it, N for -inf."""
    exact = values.detach() if values.dtype in (torch.float32, torch.float64) else values.detach().float()
    best = exact.new_full((num_rows, values.shape[1]), -torch.inf)
    winner = torch.full(best.shape, len(values), dtype=torch.int32)
    share_threads_with_torch()
    parts = 1 if num_rows < 64 else numba.get_num_threads()
    _max_rows(exact.contiguous().numpy(), row.numpy(), best.numpy(), winner.numpy(), parts)
    return best.to(values.dtype), winner


def reduce_by_row(features: Tensor, row: Tensor, count: Tensor, reduction: str) -> Tensor:
    """Pools features (N, C) into (V, C) by the `row` and `count` of `unique_voxels`, on the CPU."""
    if reduction not in _REDUCTIONS:
        raise unknown_name('reduction', reduction, _REDUCTIONS)
    if reduction == 'max':
        return max_by_row(features, row, len(count))[0]
    sums = scatter_add_rows(features.detach(), row, len(count))
    if reduction == 'mean':
        sums /= count[:, None]
    return sums.to(features.dtype)


def reduce_by_row_backward(grad: Tensor, features: Tensor, row: Tensor, count: Tensor, reduction: str) -> Tensor:
    """Gradient (N, C) of `reduce_by_row` for `grad` (V, C); a maximum passes it to the first point that attains it."""
    if reduction not in _REDUCTIONS:
        raise unknown_name('reduction', reduction, _REDUCTIONS)
    if reduction == 'max':
        winner = max_by_row(features, row, len(count))[1]
        # One row more, for the cells in which no number beat -inf.
        return grad.new_zeros(len(features) + 1, grad.shape[1]).scatter_(0, winner.long(), grad)[:-1]
    return gather_rows(grad / count[:, None].to(grad.dtype) if reduction == 'mean' else grad, row)
