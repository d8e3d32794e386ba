"""The range image of a LiDAR: rows by the angle above the horizon, columns by the direction around the vehicle."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perception3d.checks import InputError


@dataclass(frozen=True)
class RangeImage:
    """Pixels of a spherical projection, as range-view networks have it: row 0 on top, straight ahead in the middle.

    Columns go once around, from straight behind over the left, the front and the right; rows are equally high in
    degrees.

    Attributes:
        shape: rows and columns.
        up_deg, down_deg: angles above the horizon of the upper and the lower edge, degrees.
        forward: (x, y) of the axis of the LiDAR frame along which the vehicle drives, of length 1.

    Raises:
        InputError: there is no pixel, or the upper edge is not above the lower one.
    """

    shape: tuple[int, int]
    up_deg: float = 3.0
    down_deg: float = -25.0
    forward: tuple[float, float] = (1.0, 0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'shape', tuple(int(n) for n in self.shape))
        object.__setattr__(self, 'forward', tuple(float(v) for v in self.forward))
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise InputError(f'a range image needs rows and columns, got {self.shape}')
        if not -90 <= self.down_deg < self.up_deg <= 90:
            raise InputError(f'a field of view from {self.down_deg} up to {self.up_deg} degrees holds nothing')

    def coordinates(self, points: Tensor) -> Tensor:
        """Returns (N, 2) float64 row and column of points (N, >=3) in metres; pixel k reaches from k to k + 1.

        The row of a point outside the field of view lies outside 0..rows. The point at the origin is on the horizon.
        """
        xyz = points[:, :3].double()
        forward_x, forward_y = self.forward
        ahead = xyz[:, 0] * forward_x + xyz[:, 1] * forward_y
        left = xyz[:, 1] * forward_x - xyz[:, 0] * forward_y
        up = torch.rad2deg(torch.atan2(xyz[:, 2], torch.hypot(ahead, left)))
        rows, columns = self.shape
        row = (self.up_deg - up) / (self.up_deg - self.down_deg) * rows
        column = (0.5 - torch.atan2(left, ahead) / (2 * torch.pi)) * columns
        return torch.stack([row, column], 1)

    def pixels(self, points: Tensor) -> Tensor:
        """Returns (N, 2) int64 row and column of points (N, >=3); those outside the field of view fall on its edge."""
        last = torch.tensor(self.shape, device=points.device) - 1
        cells = torch.floor(self.coordinates(points)).long()
        return torch.minimum(cells.clamp(min=0), last)

    def contains(self, points: Tensor) -> Tensor:
        """Returns (N,) whether the points (N, >=3) lie within the field of view."""
        row = self.coordinates(points)[:, 0]
        return (row >= 0) & (row <= self.shape[0])
