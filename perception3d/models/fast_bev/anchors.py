"""The anchors of Fast-BEV: a few fixed boxes at the centre of every cell of the bird's-eye map, and their box coder.

Everything is in the native convention of mmdet3d >= 1.0: (x, y, z_bottom, l, w, h, yaw), yaw 0 at +x, turning left.
The released model used (w, l, h) and yaw_legacy = -yaw - pi/2. The rotations -pi/2 and -pi/2 - 1.57 below are its 0 and
1.57 in the same order, so that converted weights meet the anchors that they were trained for (`convert.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# |log(box size / anchor size)| is cut here (factor 62.5, as in mmdet's coders), so that extreme
# predictions stay finite boxes.
MAX_LOG_RATIO = 4.135
SMALLEST_SIZE_M = 0.01
# Raw outputs of the head are cut here before anything is computed from them: an overflow stays a finite loss.
LARGEST_OUTPUT = 1e4


class AnchorFields(NamedTuple):
    """Anchor coordinates that broadcast to (A, X, Y): cell centres and sizes in metres, yaw in radians."""

    x: Tensor
    y: Tensor
    length: Tensor
    width: Tensor
    height: Tensor
    yaw: Tensor

    @property
    def diagonal(self) -> Tensor:
        """Length in metres of the diagonal of the footprint, the unit of the centre offsets."""
        return torch.sqrt(self.length**2 + self.width**2)


@dataclass(frozen=True)
class AnchorGrid:
    """A = len(sizes) * len(rotations) anchors for each cell of a map over `range_m`.

    Attributes:
        range_m: (x0, y0, x1, y1) that the map covers, metres.
        sizes: (l, w, h) of the anchors, metres. Anchor index = size * len(rotations) + rotation.
        rotations: yaw of the anchors, radians.
        bottom_z: height of their bottom faces, metres.
    """

    range_m: tuple[float, float, float, float] = (-50.0, -50.0, 50.0, 50.0)
    sizes: tuple[tuple[float, float, float], ...] = (
        (2.5981, 0.8660, 1.0),
        (1.7321, 0.5774, 1.0),
        (1.0, 1.0, 1.0),
        (0.4, 0.4, 1.0),
    )
    rotations: tuple[float, ...] = (-math.pi / 2, -math.pi / 2 - 1.57)
    bottom_z: float = -1.8

    @property
    def per_cell(self) -> int:
        """Number of anchors A in a cell."""
        return len(self.sizes) * len(self.rotations)

    def cell_size_m(self, shape: tuple[int, int]) -> tuple[float, float]:
        """Edge lengths in metres of a cell of a map with `shape` (X, Y)."""
        x0, y0, x1, y1 = self.range_m
        return (x1 - x0) / shape[0], (y1 - y0) / shape[1]

    def shapes(self, device: torch.device | str) -> Tensor:
        """The anchors of one cell as (A, 4): l, w, h, yaw."""
        rows = [(*size, yaw) for size in self.sizes for yaw in self.rotations]
        return torch.tensor(rows, dtype=torch.float32, device=device)

    def coordinates(self, shape: tuple[int, int], device: torch.device | str) -> AnchorFields:
        """Anchor coordinates of a map with `shape` (X, Y), each of a shape that broadcasts to (A, X, Y)."""
        dx, dy = self.cell_size_m(shape)
        x = self.range_m[0] + dx * (torch.arange(shape[0], device=device) + 0.5)
        y = self.range_m[1] + dy * (torch.arange(shape[1], device=device) + 0.5)
        length, width, height, yaw = self.shapes(device)[:, :, None, None].unbind(1)
        return AnchorFields(x[None, :, None], y[None, None, :], length, width, height, yaw)

    def boxes(self, anchor: Tensor, x: Tensor, y: Tensor, shape: tuple[int, int]) -> Tensor:
        """Boxes (..., 7) of the anchors with index `anchor` in cells `x`, `y`, all of shape (...), of a map (X, Y)."""
        dx, dy = self.cell_size_m(shape)
        size = self.shapes(anchor.device)[anchor]
        center_x = self.range_m[0] + dx * (x + 0.5)
        center_y = self.range_m[1] + dy * (y + 0.5)
        bottom = torch.full_like(center_x, self.bottom_z)
        return torch.cat([torch.stack([center_x, center_y, bottom], -1), size], -1)


def encode(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Regression targets (..., 9) that turn `anchors` (..., 7) into `boxes` (..., 9).

    Order: dx, dy over the anchor's diagonal, dz over its height (both of gravity centres), log ratios of l, w, h,
    yaw difference, velocity (m/s). Sizes below 1 cm count as 1 cm, so that a degenerate box has finite targets.
    """
    size = boxes[..., 3:6].clamp(min=SMALLEST_SIZE_M)
    diagonal = anchors[..., 3:5].norm(dim=-1, keepdim=True)
    offset = (boxes[..., :2] - anchors[..., :2]) / diagonal
    center_gap = boxes[..., 2] + size[..., 2] / 2 - anchors[..., 2] - anchors[..., 5] / 2
    dz = (center_gap / anchors[..., 5])[..., None]
    ratio = torch.log(size / anchors[..., 3:6])
    return torch.cat([offset, dz, ratio, boxes[..., 6:7] - anchors[..., 6:7], boxes[..., 7:9]], -1)


def decode(anchors: Tensor, deltas: Tensor) -> Tensor:
    """Boxes (..., 9) from `anchors` (..., 7) and predictions `deltas` (..., 9); inverse of `encode`, sizes bounded."""
    diagonal = anchors[..., 3:5].norm(dim=-1, keepdim=True)
    xy = anchors[..., :2] + deltas[..., :2] * diagonal
    size = anchors[..., 3:6] * torch.exp(deltas[..., 3:6].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))
    z = anchors[..., 2] + anchors[..., 5] / 2 + deltas[..., 2] * anchors[..., 5] - size[..., 2] / 2
    return torch.cat([xy, z[..., None], size, anchors[..., 6:7] + deltas[..., 6:7], deltas[..., 7:9]], -1)


def direction_bin(yaw: Tensor, offset: float) -> Tensor:
    """Bin 0 or 1, of shape (...), in which `yaw` (radians) lies: 0 is [offset, offset + pi)."""
    turn = torch.remainder(yaw - offset, 2 * math.pi)
    return (turn >= math.pi).long()


def resolve_direction(yaw: Tensor, half_turn: Tensor, offset: float) -> Tensor:
    """Yaw (...) in [offset, offset + 2 pi) that is `yaw` up to half a turn and lies in bin `half_turn` (...)."""
    return torch.remainder(yaw - offset, math.pi) + offset + math.pi * half_turn
