"""The pixels of a range image as the cells of a batch: projection, and which point of a pixel is the nearest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perception3d.checks import InputError
from perception3d.geometry.range_image import RangeImage
from perception3d.models.lidar_seg.voxels import Partition
from perception3d.registry import TASK_UTILS


@TASK_UTILS.register_module()
class RangePartition(Partition):
    """Cells are the pixels of a range image: row, column, 0. Every point has a pixel, and a pixel any number of points.

    Rows go by the angle above the horizon, from `up_deg` down to `down_deg`; points outside fall on the first or last
    row, as in the published code. Where a column of the points says which laser measured them (nuScenes' ring, 0 is the
    lowest), rows can go by it.

    Features of a point: x, y, z, its distance, then `columns` of the point, such as its intensity.

    Args:
        shape: rows and columns of the image.
        up_deg, down_deg: field of view, degrees above the horizon.
        forward: as of `RangeImage`: where the seam is not, which is behind the vehicle.
        columns: columns of a point behind x, y, z that become features.
        ring_column: column of a point that is its ring; None: rows by angle.
    """

    def __init__(
        self,
        shape: Sequence[int] = (64, 2048),
        up_deg: float = 3.0,
        down_deg: float = -25.0,
        forward: Sequence[float] = (1.0, 0.0),
        columns: Sequence[int] = (3,),
        ring_column: int | None = None,
    ) -> None:
        rows, width = shape
        self.image = RangeImage((rows, width), up_deg, down_deg, (float(forward[0]), float(forward[1])))
        self.grid_shape = (*self.image.shape, 1)
        self.columns, self.ring_column = list(columns), ring_column

    def cells_of(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns cells (N, 3) as row, column, 0, and features (N, 4 + number of `columns`).

        Raises:
            InputError: points have too few columns, or a ring has no row.
        """
        last = max([*self.columns, 2 if self.ring_column is None else self.ring_column])
        if points.shape[1] <= last:
            raise InputError(
                f'points have {points.shape[1]} columns, but the partition reads column {last} (counted from 0): set '
                'use_dim of the step that loads points, or columns and ring_column of the partition'
            )
        pixels = self.image.pixels(points)
        if self.ring_column is not None:
            pixels[:, 0] = self._rows_of(points[:, self.ring_column])
        features = torch.cat([points[:, :3], distances(points)[:, None], points[:, self.columns]], 1)
        return torch.cat([pixels, torch.zeros_like(pixels[:, :1])], 1), features

    def _rows_of(self, rings: Tensor) -> Tensor:
        """Returns the rows of lasers, the highest on top."""
        rows = self.grid_shape[0] - 1 - rings.long()
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < self.grid_shape[0]:
            raise InputError(
                f'points have rings {int(rings.min())} to {int(rings.max())}, but the range image has '
                f'{self.grid_shape[0]} rows: set its shape, or ring_column to the column that holds the ring'
            )
        return rows

    def outer_distance_m(self, cells: Tensor, points: Tensor, rows: Tensor) -> Tensor:
        """Returns (M,) the horizontal distance of the farthest point of each pixel: a pixel itself has no end."""
        reach = torch.hypot(points[:, 0], points[:, 1])
        return reach.new_zeros(len(cells)).scatter_reduce(0, rows, reach, 'amax')

    def is_outside(self, points: Tensor) -> Tensor:
        """Returns (N,) whether a point is outside the field of view; with rings none is."""
        if self.ring_column is not None:
            return torch.zeros(len(points), dtype=torch.bool, device=points.device)
        return ~self.image.contains(points)


def distances(points: Tensor) -> Tensor:
    """Returns (N,) the distances of points (N, >=3) to the origin."""
    return points[:, :3].norm(dim=1)


def nearest_points(distance: Tensor, pixels: Tensor, num_pixels: int) -> Tensor:
    """Returns (num_pixels,) int64: which point of each pixel is nearest, -1 where it has none.

    Of equally near ones it is the first.

    Args:
        distance: (P,) float32, 0 or more.
        pixels: (P,) int64, the pixel of each point.
        num_pixels: number of pixels.
    """
    # The bits of floats from 0 on have the order of the floats: distance above, number of the point below.
    numbers = torch.arange(len(distance), device=distance.device)
    keys = distance.contiguous().view(torch.int32).long() << 32 | numbers
    none = torch.full((num_pixels,), torch.iinfo(torch.int64).max, device=keys.device)
    best = none.scatter_reduce(0, pixels, keys, 'amin')
    return torch.where(best == none, -1, best & 0xFFFFFFFF)
