"""The released implementation of Fast-BEV's view transformation, a reference for tests and benchmarks.

Every camera of every frame writes the voxels that it sees into a volume through a boolean mask; then the frames are
concatenated and the height axis is moved into the channels. Slow: each step copies the whole volume.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from perception3d.geometry.grid import VoxelGrid


def lift_by_masked_writes(
    maps: Tensor, img_from_lidar: np.ndarray, grid: VoxelGrid, image_hw: tuple[int, int], priority: str = 'last'
) -> Tensor:
    """Lifts maps (B, F, N, C, H, W) by projections (B, F, N, 3|4, 4) into (B, Z*F*C, X, Y).

    With `priority` 'last' the last camera that sees a voxel wins; 'mean' is the mean over the cameras that see it.
    """
    lift = _assign if priority == 'last' else _average
    stride = math.ceil(image_hw[1] / maps.shape[-1])
    frames = []
    for f in range(maps.shape[1]):
        volumes = []
        for b in range(maps.shape[0]):
            projection = torch.from_numpy(np.asarray(img_from_lidar[b, f, :, :3], np.float32)).to(maps.device)
            projection = torch.cat([projection[:, :2] / stride, projection[:, 2:]], dim=1)
            points = torch.from_numpy(grid.points().reshape(-1, 3)).to(maps.device)
            volumes.append(lift(maps[b, f], points, projection).view(-1, *grid.shape))
        frames.append(torch.stack(volumes))
    volume = torch.cat(frames, dim=1)
    collapsed = volume.permute(0, 2, 3, 4, 1).flatten(3)
    return collapsed.permute(0, 3, 1, 2)


def _pixels(maps: Tensor, points: Tensor, projection: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns columns, rows and validity (N, V) of points (V, 3) in maps (N, C, H, W)."""
    # Term by term: a matrix product may sum in another order on another machine, which rounds a few pixels differently.
    x, y, z = points.T
    p = projection[..., None]
    a, b, depth = (((p[:, :, 0] * x + p[:, :, 1] * y) + p[:, :, 2] * z) + p[:, :, 3]).unbind(1)
    u, v = (a / depth).round().long(), (b / depth).round().long()
    height, width = maps.shape[-2:]
    return u, v, (u >= 0) & (v >= 0) & (u < width) & (v < height) & (depth > 0)


def _assign(maps: Tensor, points: Tensor, projection: Tensor) -> Tensor:
    u, v, valid = _pixels(maps, points, projection)
    volume = maps.new_zeros(maps.shape[1], len(points))
    for camera, features in enumerate(maps):
        mask = valid[camera]
        volume[:, mask] = features[:, v[camera, mask], u[camera, mask]]
    return volume


def _average(maps: Tensor, points: Tensor, projection: Tensor) -> Tensor:
    u, v, valid = _pixels(maps, points, projection)
    volume = maps.new_zeros(maps.shape[1], len(points))
    for camera, features in enumerate(maps):
        mask = valid[camera]
        volume[:, mask] += features[:, v[camera, mask], u[camera, mask]]
    return volume / valid.sum(0).clamp(min=1)
