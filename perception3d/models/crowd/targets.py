"""What the maps of a crowd head should be: drawn for all people of a batch at once, on the device of the maps.

Formulas are those of DHA-R, see `head`. Lengths are in metres: cells need not be square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.crowd.maps import MapGrid
from perception3d.models.crowd.people import People, counts_within, kth_nearest, nearest_others, strongest
from perception3d.models.heads.heatmap import gaussian_radius

# 2 pi h^2 is the area of the disc of 2 m radius within which STCrowd counts neighbours.
DENSITY_SIGMA_M = math.sqrt(2)
# A cell is ignored where the kernel of an ignored person is above this: two standard deviations.
_IGNORED_ABOVE = math.exp(-2)
_NEIGHBOURS = 3
_LEAST_RADIUS_M = 0.5


@dataclass(frozen=True)
class TargetRules:
    """How targets are drawn.

    Attributes:
        kernel: 'density': the width of a person's Gaussian follows the distance of the nearest other person [P];
            'fixed': CenterPoint's, whose radius follows the size of the box and is 2 cells or more.
        sigmas_m: of each level the least and largest standard deviation of 'density' [P].
        neighbour_share: standard deviation over that distance: with 0.42 two Gaussians dip to a half midway [P].
        density: 'gauss': a Gaussian around each person [P]; 'knn': from the distance to the third nearest person [P].
        weighted: whether the heatmap losses weigh a cell by the people around it.
        weight_radius_m: how far around a cell these are counted (as PCP-MV, arXiv 2505.16029).
        coarse_radius_m: a coarse cell is positive if a person stands within this distance of its middle [P].
        relation_radius_m: up to which distance a person's nearest neighbour is learned (as PCP-MV).
        gate_densities: density at which a level should have most of the gate, finest level first [P].
    """

    kernel: str = 'density'
    sigmas_m: Sequence[tuple[float, float]] = ((0.12, 0.30), (0.24, 0.60), (0.48, 1.2))
    neighbour_share: float = 0.42
    density: str = 'gauss'
    weighted: bool = True
    weight_radius_m: float = 3.0
    coarse_radius_m: float = 1.5
    relation_radius_m: float = 3.0
    gate_densities: Sequence[float] = (5.0, 2.5, 1.0)

    def __post_init__(self) -> None:
        if self.kernel not in ('density', 'fixed'):
            raise InputError(f"targets.kernel is {self.kernel!r}: expected 'density' or 'fixed'")
        if self.density not in ('gauss', 'knn'):
            raise InputError(f"targets.density is {self.density!r}: expected 'gauss' or 'knn'")


class LevelTargets(NamedTuple):
    """Targets of a level, (B, 1, H, W): the heatmap, the weight of each cell in the loss, and where it is ignored."""

    heatmap: Tensor
    weight: Tensor
    ignored: Tensor


def level_targets(people: People, grid: MapGrid, rules: TargetRules, level: int) -> LevelTargets:
    """Draws the heatmap of a level. A cell with the centre of a person is 1, and is never ignored."""
    nearest, _ = nearest_others(people)
    heatmap = _draw(people, people.known, nearest, grid, rules, level)
    alone = torch.full_like(nearest, torch.inf)
    near = _draw(people, people.ignored, alone, grid, rules, level) > _IGNORED_ABOVE
    positive = heatmap == 1
    ignored = near & ~positive
    weight = torch.ones_like(heatmap)
    if rules.weighted:
        weight = counts_within(people, *grid.middles(heatmap), rules.weight_radius_m)[:, None].clamp(min=1)
        weight = weight / (weight * positive).sum().clamp(min=1) * positive.sum().clamp(min=1)
    return LevelTargets(heatmap, weight * ~ignored, ignored)


def _draw(people: People, drawn: Tensor, nearest: Tensor, grid: MapGrid, rules: TargetRules, level: int) -> Tensor:
    """Returns (B, 1, H, W): the largest Gaussian of the people `drawn` (B, P) at each cell, around their own cells."""
    x, y = grid.middles(people.boxes)
    column, row, inside = grid.cells_of(people.xy)
    gap_x, gap_y = x - x[column][..., None], y - y[row][..., None]
    cell_x, cell_y = grid.cell_m
    if rules.kernel == 'density':
        least, most = rules.sigmas_m[level]
        sigma_x = sigma_y = (rules.neighbour_share * nearest).clamp(least, most)[..., None]
        reach_x = reach_y = sigma_x.new_tensor(torch.inf)
    else:
        sides = people.boxes[..., 3:5] / people.boxes.new_tensor(grid.cell_m)
        radius = gaussian_radius(sides[..., 0], sides[..., 1], 0.1).floor().clamp(min=2)[..., None]
        sigma = (2 * radius + 1) / 6
        sigma_x, sigma_y = sigma * cell_x, sigma * cell_y
        reach_x, reach_y = (radius + 0.5) * cell_x, (radius + 0.5) * cell_y
    along_x = torch.exp(-gap_x.square() / (2 * sigma_x.square())) * (gap_x.abs() < reach_x)
    along_y = torch.exp(-gap_y.square() / (2 * sigma_y.square())) * (gap_y.abs() < reach_y)
    return strongest(along_x * (inside & drawn)[..., None], along_y)[:, None]


def density_target(people: People, grid: MapGrid, kind: str = 'gauss') -> tuple[Tensor, Tensor]:
    """Returns the density in people per disc of 2 m radius, and where it is not known, both (B, 1, H, W).

    'gauss': the sum of a Gaussian of standard deviation sqrt(2) m around each person: its integral over the ground,
    divided by the area of the disc, is their number. 'knn': k people in the disc up to the k-th nearest one, which has
    a radius of 0.5 m or more; k is 3, or all people where they are fewer. Unknown is in both what lies within two
    standard deviations of that Gaussian from an ignored person. (CrowdQuery's kernels of the size of a box, arXiv
    2509.08738, count how bodies overlap in an image: on the ground they would be heatmaps.)
    """
    x, y = grid.middles(people.boxes)
    along_x, along_y = (
        torch.exp(-(place - people.xy[..., axis, None]).square() / (2 * DENSITY_SIGMA_M**2))
        for axis, place in enumerate((x, y))
    )
    if kind == 'knn':
        distance, number = kth_nearest(people, x, y, _NEIGHBOURS)
        density = 4 * number[:, None, None] / distance.clamp(min=_LEAST_RADIUS_M).square()
    else:
        density = along_y.transpose(1, 2) @ (along_x * people.known[..., None])
    unknown = strongest(along_x * people.ignored[..., None], along_y) > _IGNORED_ABOVE
    return density[:, None], unknown[:, None]


def coarse_target(people: People, grid: MapGrid, radius_m: float) -> tuple[Tensor, Tensor]:
    """Returns where a person stands within `radius_m` of the middle of a cell, and where that is not known.

    Both (B, 1, H, W) bool. Not known: an ignored person stands there, and no other one.
    """
    x, y = grid.middles(people.boxes)
    positive = counts_within(people, x, y, radius_m) > 0
    near = counts_within(people._replace(known=people.ignored), x, y, radius_m) > 0
    return positive[:, None], (near & ~positive)[:, None]


def count_target(people: People, grid: MapGrid) -> Tensor:
    """Returns the number of people (B, 1, H, W) in each cell."""
    column, row, inside = grid.cells_of(people.xy)
    height, width = grid.shape
    counts = people.boxes.new_zeros(len(people.boxes), height * width)
    return counts.scatter_add(1, row * width + column, (inside & people.known).float()).view(-1, 1, height, width)


def gate_prior(density: Tensor, rules: TargetRules) -> Tensor:
    """Returns the share (B, L, H, W) that each level should have at a density (B, 1, H, W): fine ones where it is high.

    Proportional to exp(-(log(1 + density) - log(1 + d_l))^2 / (2 * 0.5^2)), d_l of `gate_densities` [P].
    """
    middle = torch.log1p(density.new_tensor(rules.gate_densities))[:, None, None]
    return torch.softmax(-(torch.log1p(density) - middle).square() / (2 * 0.5**2), 1)
