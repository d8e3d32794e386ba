"""A voxel outside of its BEV map is an error, in mmdet3d's PointPillarsScatter too, which would write it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from perception3d.checks import InputError


def require_pillars_inside(module: ModuleType) -> None:
    """Makes PointPillarsScatter check x and y of each pillar, on the CPU only; see `require_inside`."""
    scatter = module.PointPillarsScatter
    original = scatter.forward

    def forward(self: Any, voxel_features: Any, coors: Any, batch_size: Any = None) -> Any:
        """Scatters features into a map (B, C, ny, nx)."""
        require_inside(coors, (self.ny, self.nx))
        return original(self, voxel_features, coors, batch_size)

    scatter.forward = forward


def require_inside(coors: Any, shape: Sequence[int]) -> None:
    """Raises InputError if a voxel lies outside of the map: its flat index would be that of another cell.

    On a GPU nothing is checked here, since that would wait for the device; `checked_models.py` compares range, voxel
    size and map when a model is built.

    Args:
        coors: (V, 4) batch, z, y, x.
        shape: numbers of cells along the last axes of coors, such as (ny, nx).
    """
    if coors.is_cuda or not len(coors):
        return
    largest = coors.amax(0).tolist()[-len(shape) :]
    if coors.amin() < 0 or any(index >= cells for index, cells in zip(largest, shape, strict=True)):
        raise InputError(
            f'a voxel lies in cell {tuple(largest)} of a map of {tuple(shape)} cells: the map does not fit the range '
            'and size of the voxels'
        )
