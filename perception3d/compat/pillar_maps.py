"""A voxel outside its map is an error, not one of the next row; also in mmdet3d's PointPillarsScatter."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from perception3d.checks import InputError


def require_pillars_inside(module: ModuleType) -> None:
    """Compares x and y of each pillar with the map, see `require_inside`: on the CPU only."""
    scatter = module.PointPillarsScatter
    original = scatter.forward

    def forward(self: Any, voxel_features: Any, coors: Any, batch_size: Any = None) -> Any:
        """Scatter features into a map (B, C, ny, nx)."""
        require_inside(coors, (self.ny, self.nx))
        return original(self, voxel_features, coors, batch_size)

    scatter.forward = forward


def require_inside(coors: Any, shape: Sequence[int]) -> None:
    """Raises InputError if a voxel lies outside the map: its flat index would be that of another place.

    On a GPU, where it would wait for the device, nothing is done. There only the check at build time guards
    (`checked_models.py`): it compares range, size of the voxels and map when a model is built.

    Args:
        coors: (V, 4) batch, z, y, x.
        shape: cells of the last axes of coors, such as (y, x).
    """
    if coors.is_cuda or not len(coors):
        return
    largest = coors.amax(0).tolist()[-len(shape) :]
    if coors.amin() < 0 or any(index >= cells for index, cells in zip(largest, shape, strict=True)):
        raise InputError(
            f'a voxel lies in cell {tuple(largest)} of a map of {tuple(shape)} cells: the map does not fit the range '
            'and size of the voxels'
        )
