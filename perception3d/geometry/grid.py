"""The voxel grid that image features are lifted into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError


@dataclass(frozen=True)
class VoxelGrid:
    """A box of space cut into equal voxels, along x, y, z of the LiDAR frame.

    `range_m` is (x0, y0, z0, x1, y1, z1) in metres, `shape` the number of voxels (X, Y, Z).

    A voxel is represented by its lower corner, not by its centre: Fast-BEV samples there, and weights trained with it
    expect it. InputError if the range is empty or a count is not positive.
    """

    range_m: tuple[float, float, float, float, float, float]
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'range_m', tuple(float(v) for v in self.range_m))
        object.__setattr__(self, 'shape', tuple(int(n) for n in self.shape))
        if len(self.range_m) != 6 or len(self.shape) != 3:
            raise InputError(f'a voxel grid needs 6 bounds and 3 counts, got {self.range_m} and {self.shape}')
        if min(self.shape) < 1 or any(hi <= lo for lo, hi in zip(self.range_m[:3], self.range_m[3:], strict=True)):
            raise InputError(f'a voxel grid needs x0<x1, y0<y1, z0<z1, counts > 0: got {self.range_m}, {self.shape}')

    @property
    def voxel_size_m(self) -> tuple[float, float, float]:
        """Edge lengths of one voxel along x, y, z, in metres."""
        x0, y0, z0, x1, y1, z1 = self.range_m
        return (x1 - x0) / self.shape[0], (y1 - y0) / self.shape[1], (z1 - z0) / self.shape[2]

    def axes(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Returns the lower-corner coordinates along x (X,), y (Y,), z (Z,), float32, metres."""
        lower = np.asarray(self.range_m[:3], np.float32)
        size = np.asarray(self.voxel_size_m, np.float32)
        xs, ys, zs = (np.arange(n, dtype=np.float32) * size[a] + lower[a] for a, n in enumerate(self.shape))
        return xs, ys, zs

    def points(self) -> npt.NDArray[np.float32]:
        """Returns the lower corner of every voxel, (X, Y, Z, 3) float32, metres in the LiDAR frame."""
        return np.stack(np.meshgrid(*self.axes(), indexing='ij'), axis=-1)
