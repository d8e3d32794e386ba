"""The bird's-eye grid of BEVFormer, and which camera sees which of its pillars at which pixels.

Two layouts meet here. Maps of this package are (B, C, X, Y): axis 2 is x (right), axis 3 is y (forward). Inside the
transformer a map is a row of queries, with index q = y * X + x, as in the released model, whose maps are (Y, X).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from perception3d.checks import InputError

# Points nearer to the plane of the camera than this (in metres of depth) count as behind it.
_NEAREST_M = 1e-5


class PillarViews(NamedTuple):
    """Which pillars each of N cameras sees; K is the largest number that a camera sees.

    queries: (B, N, K) indices of those that the camera sees, padded with 0.
    valid: (B, N, K) False for padding.
    points: (B, N, K, D, 2) the D points of these pillars, fractions of the width and height of the image.
    cameras: (B, Q) how many cameras see a pillar.
    """

    queries: Tensor
    valid: Tensor
    points: Tensor
    cameras: Tensor


class PillarGrid:
    """Cells of a bird's-eye map with D points above each other in the middle of every cell.

    Args:
        range_m: (x0, y0, x1, y1) that the map covers, metres, LiDAR frame.
        shape: cells (X, Y).
        heights_m: heights of the points, metres. The released model spreads four from 0.5 m above -5 m to 0.5 m below
            3 m.
    """

    def __init__(
        self,
        range_m: Sequence[float] = (-51.2, -51.2, 51.2, 51.2),
        shape: tuple[int, int] = (200, 200),
        heights_m: Sequence[float] = (-4.5, -13 / 6, 1 / 6, 2.5),
    ) -> None:
        if len(range_m) != 4 or range_m[0] >= range_m[2] or range_m[1] >= range_m[3]:
            raise InputError(f'range_m must be (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {tuple(range_m)}')
        if not heights_m:
            raise InputError('heights_m is empty: a pillar needs at least one point')
        self.range_m = tuple(float(edge) for edge in range_m)
        self.shape = (int(shape[0]), int(shape[1]))
        self.heights_m = tuple(float(height) for height in heights_m)

    @property
    def extent_m(self) -> tuple[float, float]:
        """Size of the map along x and y, metres."""
        x0, y0, x1, y1 = self.range_m
        return x1 - x0, y1 - y0

    def centers(self, device: torch.device | str) -> Tensor:
        """Middles of the cells (Q, 2) as fractions (x, y) of the map, in the order of queries."""
        nx, ny = self.shape
        x = (torch.arange(nx, dtype=torch.float32, device=device) + 0.5) / nx
        y = (torch.arange(ny, dtype=torch.float32, device=device) + 0.5) / ny
        return torch.stack([x.repeat(ny), y.repeat_interleave(nx)], -1)

    def points(self, device: torch.device | str) -> Tensor:
        """Points of all pillars (Q, D, 3), metres."""
        extent, corner = (torch.tensor(pair, device=device) for pair in (self.extent_m, self.range_m[:2]))
        plane = self.centers(device) * extent + corner
        heights = torch.tensor(self.heights_m, device=device)
        shape = len(plane), len(heights)
        return torch.cat([plane[:, None].expand(*shape, 2), heights[None, :, None].expand(*shape, 1)], -1)

    def to_map(self, queries: Tensor) -> Tensor:
        """Queries (B, Q, C) as a map (B, C, X, Y)."""
        nx, ny = self.shape
        return queries.view(len(queries), ny, nx, -1).permute(0, 3, 2, 1)


def project_points(points: Tensor, img_from_lidar: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (B, N, Q, D, 2) and depths (B, N, Q, D) of `points` (Q, D, 3) by (B, N, 4, 4) projections.

    Pixels of points behind a camera are far away and mean nothing.
    """
    # Spelled out: a matrix product may round to bfloat16 under autocast, or to TF32.
    x, y, z = points.unbind(-1)
    rows = img_from_lidar[:, :, :3, :, None, None]
    along_u, along_v, depth = (
        (rows[..., 0, :, :] * x + rows[..., 1, :, :] * y + rows[..., 2, :, :] * z).add(rows[..., 3, :, :]).unbind(2)
    )
    safe = depth.clamp(min=_NEAREST_M)
    return torch.stack([along_u / safe, along_v / safe], -1), depth


def view_pillars(
    grid: PillarGrid,
    img_from_lidar: np.ndarray,
    image_hw: tuple[int, int],
    valid_hw: tuple[int, int],
    device: torch.device | str,
) -> PillarViews:
    """Finds the pillars that each camera sees: those with a point in front of it and inside its image.

    Asks the device once, for the largest number of pillars that a camera sees.

    Args:
        grid: the pillars.
        img_from_lidar: (B, N, 4, 4) from lidar-frame metres to pixels of the network's input.
        image_hw: (H, W) of the network's input.
        valid_hw: (H, W) of the picture in it, where it was padded.
        device: where the tensors shall be.
    """
    matrices = torch.from_numpy(np.asarray(img_from_lidar, np.float32)).to(device, non_blocking=True)
    pixels, depth = project_points(grid.points(device), matrices)
    inside = (pixels > 0).all(-1) & (pixels[..., 0] < valid_hw[1]) & (pixels[..., 1] < valid_hw[0])
    seen = (inside & (depth > _NEAREST_M)).any(-1)
    batch, cameras, queries = seen.shape
    counts = seen.sum(-1, keepdim=True)
    most = max(1, int(counts.max()))
    # A pillar that is seen goes to its rank among those; the others go to one more place, which is cut off.
    place = torch.where(seen, seen.cumsum(-1) - 1, most)
    index = torch.zeros(batch, cameras, most + 1, dtype=torch.long, device=device)
    numbers = torch.arange(queries, device=device).expand(batch, cameras, queries)
    index = index.scatter_(2, place, numbers)[..., :most]
    valid = torch.arange(most, device=device) < counts
    index = torch.where(valid, index, 0)
    size = torch.tensor([image_hw[1], image_hw[0]], dtype=torch.float32, device=device)
    # All places outside give zero: far ones are clamped, so that numbers stay small.
    fractions = (pixels / size).clamp(-1, 2)
    own = index[..., None, None].expand(-1, -1, -1, *fractions.shape[3:])
    # The padding has places outside of the image, where there is nothing to compute.
    points = torch.where(valid[..., None, None], fractions.gather(2, own), -1.0)
    return PillarViews(index, valid, points, seen.sum(1))
