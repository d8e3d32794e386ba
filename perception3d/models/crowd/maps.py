"""What a crowd head gives: maps of several levels, and the grid of the ground that a map lies on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from perception3d.checks import InputError


class CrowdMaps(NamedTuple):
    """Maps of B clouds on L levels, float32; (H, W) is the finest level, axes [y, x]. What a head leaves out is None.

    Attributes:
        heatmap: (B, 1, H, W) logits of people's centres, all levels joined: what boxes are decoded from.
        codes: (B, 10, H, W) box of the person whose centre lies in a cell, see `boxes.encode`.
        levels: for each level logits (B, 1, H_l, W_l).
        gates: (B, L, H, W) share of each level in the heatmap; sums to 1.
        density: (B, 1, H, W) people per disc of 2 m radius.
        coarse: (B, 1, H_L, W_L) logits of the last level: whether there are people near a cell.
        relation: (B, 2, H, W) vector in metres from the person in a cell to the nearest other one.
        counts: for each level but the first (B, 1, H_l, W_l), log(1 + people in a cell).
    """

    heatmap: Tensor
    codes: Tensor
    levels: tuple[Tensor, ...]
    gates: Tensor | None = None
    density: Tensor | None = None
    coarse: Tensor | None = None
    relation: Tensor | None = None
    counts: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class MapGrid:
    """A map (H, W) over the ground, axes [y, x]; cells need not be square.

    Attributes:
        range_m: (x0, y0, x1, y1) that the map covers, metres, LiDAR frame.
        shape: (H, W).
    """

    range_m: tuple[float, float, float, float]
    shape: tuple[int, int]

    @property
    def cell_m(self) -> tuple[float, float]:
        """Length of a cell along x and along y."""
        x0, y0, x1, y1 = self.range_m
        return (x1 - x0) / self.shape[1], (y1 - y0) / self.shape[0]

    def middles(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Returns x (W,) and y (H,) of the middles of the cells, on the device of `like`."""
        columns, rows = (torch.arange(n, device=like.device, dtype=torch.float32) for n in reversed(self.shape))
        cell_x, cell_y = self.cell_m
        return self.range_m[0] + (columns + 0.5) * cell_x, self.range_m[1] + (rows + 0.5) * cell_y

    def cells_of(self, xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns column, row and whether it is on the map, each (...), of places (..., 2); off the map they are 0."""
        place = (xy - xy.new_tensor(self.range_m[:2])) / xy.new_tensor(self.cell_m)
        size = place.new_tensor([self.shape[1], self.shape[0]])
        inside = ((place >= 0) & (place < size)).all(-1)
        cell = torch.where(inside[..., None], place, place.new_zeros(())).long()
        return cell[..., 0], cell[..., 1], inside


def grids_of(range_m: Sequence[float], maps: Sequence[Tensor]) -> list[MapGrid]:
    """Returns the grid of each of maps (B, C, H_l, W_l), finest first, that all cover `range_m`.

    Raises:
        InputError: the cells of a level are not whole cells of the finest one, so that the levels cover other ranges.
    """
    shapes = [(int(x.shape[2]), int(x.shape[3])) for x in maps]
    for shape in shapes:
        ratios = {fine / coarse for fine, coarse in zip(shapes[0], shape, strict=True)}
        if len(ratios) > 1 or ratios.pop() % 1:
            raise InputError(
                f'maps of {shapes} cells (y, x) do not cover the same ground: choose a range whose number of pillars '
                'is a multiple of the coarsest stride along x and y'
            )
    x0, y0, x1, y1 = map(float, range_m)
    return [MapGrid((x0, y0, x1, y1), shape) for shape in shapes]
