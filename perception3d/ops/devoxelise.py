"""Features of voxels at points between them: trilinear interpolation over active voxels, in plain torch.

Voxels are found by their flat index with a binary search. As in SPVNAS (ECCV 2020) and torchsparse, a voxel of a
coarser level stands at its lowest corner: index i at stride s is the position i * s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class VoxelTable:
    """Finds voxels by sample and index.

    Args:
        coords: (M, 4) sample and three indices of different voxels, in any order.
        shape: number of cells along the three axes.
    """

    def __init__(self, coords: Tensor, shape: Sequence[int]) -> None:
        self._shape = tuple(int(size) for size in shape)
        self._keys, self._rows = self._flat(coords.long()).sort()

    def rows(self, coords: Tensor) -> Tensor:
        """Returns the row (N,) int64 of each voxel (N, 4), or -1 where it is not active or outside the grid."""
        inside = torch.ones(len(coords), dtype=torch.bool, device=coords.device)
        for axis, size in enumerate(self._shape, start=1):
            inside &= (coords[:, axis] >= 0) & (coords[:, axis] < size)
        keys = self._flat(coords)
        places = torch.searchsorted(self._keys, keys).clamp(max=max(0, len(self._keys) - 1))
        found = inside & (self._keys[places] == keys)
        return torch.where(found, self._rows[places], -1)

    def _flat(self, coords: Tensor) -> Tensor:
        keys = coords[:, 0]
        for axis, size in enumerate(self._shape, start=1):
            keys = keys * size + coords[:, axis]
        return keys.contiguous()


@dataclass(frozen=True)
class Trilinear:
    """The up to eight active voxels around each point, and their weights, which sum to 1.

    Attributes:
        rows: (8, P) int64 rows of voxels, 0 where there is none.
        weights: (8, P), 0 where there is none.
    """

    rows: Tensor
    weights: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Returns the features (P, C) at the points, of those of voxels (M, C)."""
        weights = self.weights.to(features.dtype)
        # Corner by corner: all eight rows of all points at once are half a gigabyte.
        sums = features.index_select(0, self.rows[0]) * weights[0, :, None]
        for rows, weight in zip(self.rows[1:], weights[1:]):
            sums = sums + features.index_select(0, rows) * weight[:, None]
        return sums


def trilinear(table: VoxelTable, batch: Tensor, positions: Tensor) -> Trilinear:
    """Returns the weights of active voxels for points.

    Weights of voxels that are not active are shared among the others; a point next to no active voxel has the features
    0.

    Args:
        table: the voxels.
        batch: (P,) int64 sample of each point.
        positions: (P, 3) in cells of the voxels' level, from the lowest corner of the grid.
    """
    lowest = torch.floor(positions)
    fractions = positions - lowest
    rows, weights = [], []
    for corner in range(8):
        step = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1], device=positions.device)
        found = table.rows(torch.cat([batch[:, None], lowest.long() + step], 1))
        share = torch.where(step.bool(), fractions, 1 - fractions).prod(1)
        weights.append(torch.where(found >= 0, share, 0))
        rows.append(found.clamp(min=0))
    stacked = torch.stack(weights)
    return Trilinear(torch.stack(rows), stacked / stacked.sum(0).clamp(min=1e-8))
