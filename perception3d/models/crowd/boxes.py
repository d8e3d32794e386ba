"""Codes of a person's box in the cell of its centre, as CenterPoint has them, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from perception3d.models.crowd.maps import MapGrid
from perception3d.models.crowd.people import People

CODE_SIZE = 10
# |log(size in metres)| is cut here, so that a wild prediction stays a finite box (0.05 to 20 m).
_MAX_LOG_SIZE = 3.0


def encode(people: People, grid: MapGrid) -> tuple[Tensor, Tensor, Tensor]:
    """Returns codes (B, P, 10), the cell (B, P) as row * W + column, and whether it is on the map (B, P).

    Codes: offset of the centre from the middle of its cell along x and y in cells, height of the middle of the box in
    metres, logs of l, w, h in metres, sine and cosine of the yaw, velocity in m/s (NaN where it is not known).
    """
    boxes = people.boxes
    x, y = grid.middles(boxes)
    column, row, inside = grid.cells_of(people.xy)
    offset = torch.stack([x[column], y[row]], -1)
    offset = (people.xy - offset) / boxes.new_tensor(grid.cell_m)
    middle = boxes[..., 2:3] + boxes[..., 5:6] / 2
    turn = torch.stack([boxes[..., 6].sin(), boxes[..., 6].cos()], -1)
    size = boxes[..., 3:6].log().clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE)
    return torch.cat([offset, middle, size, turn, boxes[..., 7:9]], -1), row * grid.shape[1] + column, inside


def rows_at(maps: Tensor, cells: Tensor) -> Tensor:
    """Returns the values (B, P, C) of maps (B, C, H, W) at cells (B, P), row * W + column."""
    return maps.flatten(2).gather(2, cells[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)


def decode(codes: Tensor, cells: Tensor, grid: MapGrid) -> Tensor:
    """Returns boxes (B, P, 9), bottom centre, of codes (B, P, 10) at cells (B, P), row * W + column."""
    x, y = grid.middles(codes)
    codes = codes.float()
    row, column = cells // grid.shape[1], cells % grid.shape[1]
    cell_x, cell_y = grid.cell_m
    size = codes[..., 3:6].clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE).exp()
    place = [
        x[column] + codes[..., 0] * cell_x,
        y[row] + codes[..., 1] * cell_y,
        codes[..., 2] - size[..., 2] / 2,
    ]
    yaw = torch.atan2(codes[..., 6], codes[..., 7])
    return torch.cat([torch.stack(place, -1), size, yaw[..., None], codes[..., 8:10]], -1)
