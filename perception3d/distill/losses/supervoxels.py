"""Supervoxels: blocks of voxels, some of which are drawn in each step, the difficult ones more often.

Part of point-to-voxel distillation (PVD, arXiv 2206.02099). Its authors did not release this code. What is marked
"recalled" is from memory of the paper and could not be checked against its text; "own proposal" is not in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perception3d.checks import InputError, unknown_name
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.voxel_rows import POINT, VOXEL, Voxels, batch_voxels, is_labelled, labels_of
from perception3d.structures.expected_data import ExpectedData, Stated

# Sizes, in voxels, of the paper on its grid of 480 x 360 x 32 (recalled): 4 x 6 x 4 = 96 supervoxels.
_BLOCKS = (4, 6, 4)


@dataclass(frozen=True)
class RowSets:
    """Sets of equal size of rows of points or voxels, one set for each supervoxel that was drawn.

    Attributes:
        rows: (G, N) which rows; 0 where a set has fewer than N.
        mask: (G, N) whether an entry is a row of the set.
    """

    rows: Tensor
    mask: Tensor

    def gather(self, features: Tensor) -> Tensor:
        """Returns the features (G, N, C) of all sets from those (R, C) of all rows; zeros where a set has no row."""
        gathered = features.index_select(0, self.rows.flatten()).unflatten(0, self.rows.shape)
        return gathered * self.mask[..., None]


@dataclass(frozen=True)
class DrawnSupervoxels:
    """The supervoxels of one step.

    Attributes:
        blocks: (B, K) index of each drawn supervoxel in its sample; -1 where a sample has fewer.
        points, voxels: sets of B * K supervoxels.
    """

    blocks: Tensor
    points: RowSets
    voxels: RowSets


def supervoxel_size(grid_shape: Sequence[int], size: Sequence[int] | None = None) -> tuple[int, int, int]:
    """Size of a supervoxel in voxels along the three axes: `size`, at most the grid.

    Without it, a size with which the grid has about 4 x 6 x 4 = 96 supervoxels, as many as the paper's (120, 60, 8) on
    480 x 360 x 32 (recalled). That the size follows the grid is our own proposal.
    """
    sizes = [-(-cells // blocks) for cells, blocks in zip(grid_shape, _BLOCKS)] if size is None else size
    first, second, third = (min(int(part), int(cells)) for part, cells in zip(sizes, grid_shape, strict=True))
    return first, second, third


def supervoxel_of(coords: Tensor, grid_shape: Sequence[int], size: Sequence[int]) -> tuple[Tensor, int]:
    """Divides a grid into blocks of `size` voxels; those at the end of an axis may be smaller.

    Args:
        coords: (M, 4) sample and three cell indices of each voxel.
        grid_shape: number of cells along the three axes.
        size: of a block.

    Returns:
        The index (M,) of the supervoxel of each voxel, in row-major order within its sample, and N_s, the number of
        supervoxels of a sample: the product of ceil(cells / size).
    """
    counts = [-(-cells // part) for cells, part in zip(grid_shape, size)]
    first, second, third = (coords[:, axis + 1].long() // size[axis] for axis in range(3))
    return (first * counts[1] + second) * counts[2] + third, counts[0] * counts[1] * counts[2]


def difficulty(num_minority: Tensor, distance: Tensor) -> Tensor:
    """Weight of each supervoxel: W_i = d_i / (f_class(i) N_s), with f_class = 4 exp(-2 N_minor) + 1 (recalled).

    f_class is 5.0, 1.54, 1.07, 1.01 for 0, 1, 2, 3 voxels of minority classes: one such voxel gives 3.2 times the
    weight, and more hardly any further. N_s is the same for all supervoxels and left out, because only the ratio of two
    weights matters.

    Args:
        num_minority: N_minor, number of voxels of minority classes in each supervoxel.
        distance: d_i, distance of the outer border of each supervoxel to the origin; in any unit.
    """
    return distance / (4 * torch.exp(-2 * num_minority.to(distance.dtype)) + 1)


def draw_without_replacement(weights: Tensor, count: int, noise: Tensor) -> Tensor:
    """Draws `count` columns in each row, one after another, each in proportion to the weights of those that are left.

    Whether the paper draws with replacement is not known; without is our choice.

    Args:
        weights: (B, N), 0 where a column must not be drawn.
        count: K; N where that is less.
        noise: (B, N) uniform random numbers in [0, 1).

    Returns:
        Columns (B, min(K, N)); -1 where a row has fewer columns with a weight.
    """
    # The order of w / E with E exponential is that of such a drawing (Efraimidis and Spirakis, 2006).
    keys = weights / -torch.log1p(-noise).clamp(max=-1e-30)
    best = keys.topk(min(count, weights.shape[1]), dim=1)
    return torch.where(best.values > 0, best.indices, -1)


def fixed_sets(group: Tensor, minority: Tensor, noise: Tensor, num_groups: int, size: int) -> RowSets:
    """Gives each group a set of `size` of its rows; a larger group loses rows of majority classes first (recalled).

    Args:
        group: (R,) group of each row from 0 to G - 1, or -1 for rows of no set.
        minority: (R,) whether a row is of a minority class.
        noise: (R,) uniform random numbers in [0, 1): among rows of one kind, those with the smallest are kept.
        num_groups: G.
        size: N.
    """
    members = (group >= 0).nonzero()[:, 0]
    groups = group[members]
    order = (3.0 * groups + (~minority[members]).double() + noise[members].double()).argsort()
    members, groups = members[order], groups[order]
    counts = torch.bincount(groups, minlength=num_groups)
    rank = torch.arange(len(groups), device=group.device) - (counts.cumsum(0) - counts)[groups]
    kept = rank < size
    rows = group.new_zeros(num_groups, size)
    rows[groups[kept], rank[kept]] = members[kept]
    return RowSets(rows, torch.arange(size, device=group.device) < counts[:, None])


@dataclass(frozen=True)
class SupervoxelSampler:
    """Draws K supervoxels of each sample in each step, and sets of their points and voxels.

    The probability of a supervoxel is P_i = W_i / sum over j of W_j, with W of `difficulty` and 0 for one without
    voxels. On a cylindrical grid with rings of equal width, the `radial_axis` of the batch, d_i / R is (k + 1) R_s / R,
    the outer arc of ring k of the supervoxels (recalled). On other grids d_i is the largest `outer_distance_m` of the
    supervoxel's voxels (own proposal). Points and voxels of a supervoxel become sets of fixed size by `fixed_sets`. All
    losses of a step with equal settings use the same draw, for student and teacher.

    Random numbers come from a generator of the sampler's own, seeded by torch's seed of the step and the step: a
    resumed training draws the same supervoxels, and no other random number of the training changes.

    Args:
        classes: names of all classes, in the order of the labels.
        minority: names of the minority classes: those with less than 1 % of all points (recalled).
        draws: K; 4 in the paper (recalled).
        num_points, num_voxels: sizes N_p and N_v of the sets. The paper's are not known: own proposal.
        size: of a supervoxel in voxels; None for one that scales with the grid, see `supervoxel_size`.
        by_class, by_distance: leave out f_class, or d_i; without both all supervoxels have the same probability.
        skip_ignored: leave out points and voxels without a label. By default they are treated as a majority class.

    Raises:
        InputError: a minority class that is not among the classes, or a setting that is not positive.
    """

    classes: tuple[str, ...]
    minority: tuple[str, ...]
    draws: int = 4
    num_points: int = 512
    num_voxels: int = 256
    size: tuple[int, int, int] | None = None
    by_class: bool = True
    by_distance: bool = True
    skip_ignored: bool = False

    def __post_init__(self) -> None:
        # Settings of configs are lists; the sampler is a key of shared values.
        for name in ('classes', 'minority', 'size'):
            value = getattr(self, name)
            object.__setattr__(self, name, value if value is None else tuple(value))
        for name in self.minority:
            if name not in self.classes:
                raise unknown_name('minority class', name, self.classes)
        sizes = (self.draws, self.num_points, self.num_voxels, *(self.size or (1, 1, 1)))
        if min(sizes) < 1 or len(sizes) != 6:
            raise InputError(
                f'supervoxels: draws={self.draws}, num_points={self.num_points}, num_voxels={self.num_voxels}, '
                f'size={self.size}: expected numbers of at least 1, and three for the size'
            )

    def expected_data(self) -> ExpectedData:
        """Returns the classes, which give the labels of the batch their names."""
        return ExpectedData(class_names=Stated('supervoxels.classes', self.classes))

    def shared_draw(self, context: DistillContext) -> DrawnSupervoxels:
        """The supervoxels of this step, the same for all losses with equal settings."""

        def make() -> DrawnSupervoxels:
            seed = (torch.initial_seed() * 1_000_003 + context.step) % 2**63
            return self.draw(batch_voxels(context), torch.Generator().manual_seed(seed))

        return context.shared(('supervoxels', self), make)

    @torch.no_grad()
    def draw(self, voxels: Voxels, generator: torch.Generator) -> DrawnSupervoxels:
        """Draws supervoxels of a batch with random numbers of `generator`, which is one of the CPU.

        Raises:
            InputError: the batch has no labels.
        """
        chances, cells = self.probabilities(voxels)
        device, (samples, per_sample) = chances.device, chances.shape
        # Drawn on the CPU: a GPU has other random numbers.
        noise = [
            torch.rand(shape, generator=generator).to(device)
            for shape in ((samples, per_sample), (len(voxels.point_to_voxel),), (len(cells),))
        ]
        blocks = draw_without_replacement(chances, self.draws, noise[0].to(chances.dtype))
        slots = torch.arange(blocks.numel(), device=device).view_as(blocks)
        group = cells.new_full((samples, per_sample + 1), -1)
        # The last column takes the -1 of samples with few supervoxels.
        group.scatter_(1, blocks.where(blocks >= 0, per_sample), slots)
        voxel_group = group[:, :per_sample].flatten()[cells]
        sets = [
            self._sets(voxels, POINT, voxel_group[voxels.point_to_voxel], noise[1], slots.numel()),
            self._sets(voxels, VOXEL, voxel_group, noise[2], slots.numel()),
        ]
        return DrawnSupervoxels(blocks, *sets)

    def probabilities(self, voxels: Voxels) -> tuple[Tensor, Tensor]:
        """P_i (B, N_s) of all supervoxels of a batch, and the one (M,) of each voxel, counted over all samples."""
        size = supervoxel_size(voxels.grid_shape, self.size)
        index, per_sample = supervoxel_of(voxels.coords, voxels.grid_shape, size)
        samples = len(voxels.point_counts)
        cells = voxels.coords[:, 0].long() * per_sample + index
        minority = self._is_minority(labels_of(voxels, VOXEL))
        counted = is_labelled(voxels, VOXEL) if self.skip_ignored else torch.ones_like(minority)
        total = samples * per_sample
        filled, num_minority = (
            torch.zeros(total, dtype=torch.float64, device=cells.device).index_add_(0, cells, part.double())
            for part in (counted, minority)
        )
        distance = torch.zeros_like(filled)
        axis = voxels.radial_axis
        if axis is None:
            distance.scatter_reduce_(0, cells, voxels.outer_distance_m.double(), 'amax')
        else:
            rings = (voxels.coords[:, axis + 1].long() // size[axis] + 1) * size[axis]
            share = rings.clamp(max=voxels.grid_shape[axis]).double() / voxels.grid_shape[axis]
            distance.scatter_reduce_(0, cells, share, 'amax')
        weights = difficulty(
            num_minority if self.by_class else torch.zeros_like(num_minority),
            distance if self.by_distance else torch.ones_like(distance),
        )
        weights = torch.where(filled > 0, weights, 0).view(samples, per_sample)
        return weights / weights.sum(1, keepdim=True).clamp(min=1e-300), cells

    def _sets(self, voxels: Voxels, of: str, group: Tensor, noise: Tensor, num_groups: int) -> RowSets:
        if self.skip_ignored:
            group = torch.where(is_labelled(voxels, of), group, -1)
        size = self.num_points if of == POINT else self.num_voxels
        return fixed_sets(group, self._is_minority(labels_of(voxels, of)), noise, num_groups, size)

    def _is_minority(self, labels: Tensor) -> Tensor:
        chosen = torch.tensor([self.classes.index(name) for name in self.minority], device=labels.device)
        return torch.isin(labels, chosen)


def build_sampler(settings: SupervoxelSampler | Mapping[str, Any]) -> SupervoxelSampler:
    """Returns the sampler that a config describes by its arguments."""
    if isinstance(settings, SupervoxelSampler):
        return settings
    try:
        return SupervoxelSampler(**settings)
    except TypeError as error:
        raise InputError(f'supervoxels: expected the arguments of SupervoxelSampler: {error}') from error
