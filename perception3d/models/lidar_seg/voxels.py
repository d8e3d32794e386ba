"""Points of a batch in voxels: the batch that networks of this folder take, and partitions of space into cells."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perception3d.checks import InputError, unknown_name
from perception3d.ops.grouping import group_cells, majority_labels
from perception3d.registry import TASK_UTILS
from perception3d.structures.point_labels import IGNORE


@dataclass(frozen=True)
class VoxelBatch:
    """The points of a batch and the voxels in which they lie.

    P points of B samples, one sample after another; M active voxels.

    Attributes:
        features: (P, F) what the partition gives a point.
        point_batch: (P,) int64, sample of each point.
        point_to_voxel: (P,) int64, row of `coords`.
        coords: (M, 4) int32, sample and three cell indices; sorted, so that they do not depend on the order of points.
        grid_shape: number of cells; rho, phi, z for cylinders.
        outer_distance_m: (M,) distance of a cell's outer border to the origin in x-y, metres; for cylinders its outer
            arc.
        radial_axis: the axis of the grid that counts rings of equal width from the origin; None where there is none.
        point_counts: points of each sample.
        point_labels: (P,) int64, a class or `IGNORE`; None without annotation.
        voxel_labels: (M,) int64, what most of a voxel's points have, see `majority_labels`; None without annotation.
    """

    features: Tensor
    point_batch: Tensor
    point_to_voxel: Tensor
    coords: Tensor
    grid_shape: tuple[int, int, int]
    outer_distance_m: Tensor
    radial_axis: int | None
    point_counts: tuple[int, ...]
    point_labels: Tensor | None = None
    voxel_labels: Tensor | None = None

    @property
    def batch_size(self) -> int:
        """Number of samples."""
        return len(self.point_counts)


class Partition(ABC):
    """Cuts space into cells: the base class.

    A subclass sets `grid_shape`, the number of cells along three axes, and writes `cells_of`, `outer_distance_m` and
    `is_outside`; where an axis counts rings of equal width, it sets `radial_axis` to it.
    """

    grid_shape: tuple[int, int, int]
    radial_axis: int | None = None

    @abstractmethod
    def cells_of(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the cell (N, 3) int64 of each point (N, >=3), and its features (N, F) for the network."""

    @abstractmethod
    def outer_distance_m(self, cells: Tensor, points: Tensor, rows: Tensor) -> Tensor:
        """Returns (M,) the distance of the outer border of each cell (M, 3) to the origin in x-y, metres.

        Cells without an outer border, such as pixels, have the distance of their points (N, >=3), which lie in the
        cells `rows` (N,).
        """

    @abstractmethod
    def is_outside(self, points: Tensor) -> Tensor:
        """Returns (N,) whether a point lies outside the cells."""


@TASK_UTILS.register_module()
class CylinderPartition(Partition):
    """Cells of Cylinder3D (arXiv 2011.10033): rho, the horizontal distance; phi, the azimuth; z.

    As in the released code a cell has the size (high - low) / (cells - 1), and its index is floor((p - low) / size) of
    the point clamped to the bounds. Points outside fall into cells of the border, and none is dropped. The last cell of
    an axis holds what lies at `high` or beyond; phi does not wrap.

    Features of a point: offset from its cell's centre in rho, phi, z (of the point before clamping); rho, phi, z; x, y;
    then `columns` of the point, such as its intensity.

    Args:
        grid_shape: number of cells along rho, phi, z.
        low, high: bounds: rho in metres, phi in radians, z in metres.
        columns: columns of a point behind x, y, z that become features.
        rho_partition: 'uniform' as in the paper, or 'arithmetic': each cell is wider than the one before by the same
            amount, as NUC-Net has it (by its abstract), so that cells are small where points are dense.
        first_rho_m: width of the innermost cell where the partition is arithmetic.

    Raises:
        InputError: the grid has fewer than two cells along an axis, bounds are not in order, or no arithmetic
            progression has this first cell.
    """

    def __init__(
        self,
        grid_shape: Sequence[int] = (480, 360, 32),
        low: Sequence[float] = (0.0, -math.pi, -4.0),
        high: Sequence[float] = (50.0, math.pi, 2.0),
        columns: Sequence[int] = (3,),
        rho_partition: str = 'uniform',
        first_rho_m: float | None = None,
    ) -> None:
        if len(grid_shape) != 3 or min(grid_shape) < 2:
            raise InputError(f'grid_shape is {list(grid_shape)}: expected 2 or more cells along rho, phi and z')
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise InputError(f'low {list(low)} is not below high {list(high)} along rho, phi and z')
        if rho_partition not in ('uniform', 'arithmetic'):
            raise unknown_name('rho_partition', rho_partition, ('uniform', 'arithmetic'))
        self.grid_shape = (int(grid_shape[0]), int(grid_shape[1]), int(grid_shape[2]))
        self.low, self.high, self.columns = list(map(float, low)), list(map(float, high)), list(columns)
        self.size = [(b - a) / (n - 1) for a, b, n in zip(self.low, self.high, self.grid_shape)]
        self._rho_edges = None
        self.radial_axis = 0 if rho_partition == 'uniform' else None
        if rho_partition == 'arithmetic':
            self._rho_edges = self._arithmetic_edges(first_rho_m)

    def _arithmetic_edges(self, first_rho_m: float | None) -> Tensor:
        """Borders (cells + 1,) float64 of an arithmetic progression of widths."""
        count, span = self.grid_shape[0] - 1, self.high[0] - self.low[0]
        if first_rho_m is None or not 0 < first_rho_m <= span / count or count < 2:
            raise InputError(
                f"rho_partition='arithmetic' needs first_rho_m above 0 and up to {span / count:.4f} m, the width of "
                f'uniform cells, got {first_rho_m}'
            )
        step = 2 * (span - count * first_rho_m) / (count * (count - 1))
        cells = torch.arange(count + 2, dtype=torch.float64)
        return self.low[0] + cells * first_rho_m + step * cells * (cells - 1) / 2

    def cells_of(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns cells (N, 3) as rho, phi, z, and features (N, 8 + number of `columns`).

        Raises:
            InputError: points have too few columns.
        """
        _require_columns(points, self.columns)
        polar = _polar(points)
        low, high, size = (polar.new_tensor(v, dtype=torch.float64) for v in (self.low, self.high, self.size))
        # In float64, as the released code rounds.
        inside = torch.minimum(torch.maximum(polar.double(), low), high)
        cells = torch.floor((inside - low) / size).long()
        centres = (cells + 0.5) * size + low
        if self._rho_edges is not None:
            edges = self._rho_edges.to(points.device)
            rho = torch.bucketize(inside[:, 0].contiguous(), edges[1:-1], right=True)
            cells[:, 0], centres[:, 0] = rho, (edges[rho] + edges[rho + 1]) / 2
        offsets = (polar - centres).to(points.dtype)
        return cells, torch.cat([offsets, polar, points[:, :2], points[:, self.columns]], 1)

    def outer_distance_m(self, cells: Tensor, points: Tensor, rows: Tensor) -> Tensor:
        """Returns (M,) the radius of the outer arc of each cell (M, 3), metres."""
        if self._rho_edges is not None:
            return self._rho_edges.to(cells.device)[cells[:, 0].long() + 1].float()
        return (cells[:, 0] + 1) * self.size[0] + self.low[0]

    def is_outside(self, points: Tensor) -> Tensor:
        """Returns (N,) whether a point is beyond the bounds of rho or z, or outside a sector of phi."""
        polar = _polar(points).double()
        low, high = (polar.new_tensor(bounds) for bounds in (self.low, self.high))
        # float32 rounds an azimuth of pi up.
        return ((polar < low - 1e-6) | (polar > high + 1e-6)).any(1)


@TASK_UTILS.register_module()
class CubePartition(Partition):
    """Cubes, as MinkUNet and SPVCNN have them: a point p lies in the cube round(p / voxel_size_m).

    So the centres of cubes are multiples of the size, as in the released code of SPVNAS. That code has no bounds; here
    they fix the grid, so that cells of two clouds can be compared. Points outside fall into cubes of the border, and
    none is dropped; the default bounds hold every point of a usual LiDAR.

    Features of a point: x, y, z; then `columns` of the point, such as its intensity; then its offset from the centre of
    its cube in x, y, z, counted in cubes (-0.5 to 0.5, also outside the bounds).

    Args:
        voxel_size_m: edge of a cube.
        low, high: x, y, z of the first and the last cubes' centres, metres, rounded to multiples of the size.
        columns: columns of a point behind x, y, z that become features.

    Raises:
        InputError: the size is not positive, or bounds are not in order.
    """

    def __init__(
        self,
        voxel_size_m: float = 0.05,
        low: Sequence[float] = (-100.0, -100.0, -20.0),
        high: Sequence[float] = (100.0, 100.0, 20.0),
        columns: Sequence[int] = (3,),
    ) -> None:
        if voxel_size_m <= 0 or not all(a < b for a, b in zip(low, high, strict=True)):
            raise InputError(
                f'voxel_size_m is {voxel_size_m}, low {list(low)}, high {list(high)}: expected a size above 0, and low '
                'below high along x, y and z'
            )
        self.voxel_size_m, self.columns = float(voxel_size_m), list(columns)
        self._first = [round(a / voxel_size_m) for a in low]
        x, y, z = (round(b / voxel_size_m) - a + 1 for a, b in zip(self._first, high))
        self.grid_shape = (x, y, z)

    def cells_of(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns cells (N, 3) along x, y, z, and features (N, 6 + number of `columns`).

        Raises:
            InputError: points have too few columns.
        """
        _require_columns(points, self.columns)
        scaled = points[:, :3] / self.voxel_size_m
        nearest = torch.round(scaled)
        last = torch.tensor(self.grid_shape, device=points.device) - 1
        cells = torch.minimum((nearest.long() - self._first_cell(points)).clamp(min=0), last)
        return cells, torch.cat([points[:, :3], points[:, self.columns], scaled - nearest], 1)

    def outer_distance_m(self, cells: Tensor, points: Tensor, rows: Tensor) -> Tensor:
        """Returns (M,) the distance of the farthest edge of each cube (M, 3), metres."""
        centers = (cells[:, :2] + self._first_cell(cells)[:2]).abs() + 0.5
        return centers.float().norm(dim=1) * self.voxel_size_m

    def is_outside(self, points: Tensor) -> Tensor:
        """Returns (N,) whether a point lies outside the cubes."""
        cells = torch.round(points[:, :3] / self.voxel_size_m) - self._first_cell(points)
        return ((cells < 0) | (cells >= torch.tensor(self.grid_shape, device=points.device))).any(1)

    def _first_cell(self, like: Tensor) -> Tensor:
        return torch.tensor(self._first, device=like.device)


def _require_columns(points: Tensor, columns: Sequence[int]) -> None:
    if points.shape[1] <= max(columns, default=2):
        raise InputError(
            f'points have {points.shape[1]} columns, but the partition reads column {max(columns)} (counted '
            'from 0): set use_dim of the step that loads points, or columns of the partition'
        )


def _polar(points: Tensor) -> Tensor:
    """Returns rho, phi, z (N, 3) of points (N, >=3)."""
    x, y, z = points[:, :3].unbind(1)
    return torch.stack([torch.sqrt(x * x + y * y), torch.atan2(y, x), z], 1)


def voxelise(
    partition: Partition, clouds: Sequence[Tensor], labels: Sequence[Tensor] | None = None, ignore_wins: bool = False
) -> VoxelBatch:
    """Returns the voxels of the clouds of a batch.

    Args:
        partition: cuts space into cells.
        clouds: (N_b, >=3) float points of each sample, one or more.
        labels: (N_b,) int64 of each sample, classes or `IGNORE`; None without annotation.
        ignore_wins: which label a voxel has in which as many points are ignored as are of the most frequent class; the
            released Cylinder3D code lets ignored ones win.
    """
    points = torch.cat(list(clouds))
    counts = tuple(len(cloud) for cloud in clouds)
    batch = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(points.device)
    cells, features = partition.cells_of(points)
    rows = torch.cat([batch[:, None], cells], 1).int()
    coords, point_to_voxel = group_cells(rows, (len(counts), *partition.grid_shape))
    point_labels = None if labels is None else torch.cat(list(labels))
    voxel_labels = None
    if point_labels is not None:
        voxel_labels = majority_labels(point_labels, point_to_voxel, len(coords), IGNORE, ignore_wins)
    return VoxelBatch(
        features=features,
        point_batch=batch,
        point_to_voxel=point_to_voxel,
        coords=coords,
        grid_shape=partition.grid_shape,
        outer_distance_m=partition.outer_distance_m(coords[:, 1:], points, point_to_voxel),
        radial_axis=partition.radial_axis,
        point_counts=counts,
        point_labels=point_labels,
        voxel_labels=voxel_labels,
    )
