"""Batches of points in voxels, without a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perception3d.distill.context import DistillContext
from perception3d.structures.point_labels import IGNORE

CLASSES = ('road', 'car', 'person', 'pole')
MINORITY = ('person', 'pole')


@dataclass(frozen=True)
class Batch:
    """The attributes of `models.lidar_seg.voxels.VoxelBatch` that distillation reads."""

    point_batch: Tensor
    point_to_voxel: Tensor
    coords: Tensor
    grid_shape: tuple[int, int, int]
    outer_distance_m: Tensor
    radial_axis: int | None
    point_counts: tuple[int, ...]
    point_labels: Tensor | None
    voxel_labels: Tensor | None


def batch_of(cells: Tensor, samples: Tensor, labels: Tensor, grid_shape: tuple[int, int, int]) -> Batch:
    """The batch of points (P, 3) whose cells are given; a voxel has the label of its first point in this order."""
    rows = torch.cat([samples[:, None], cells], 1)
    coords, point_to_voxel = rows.unique(dim=0, return_inverse=True)
    first = torch.full((len(coords),), len(rows)).scatter_reduce(0, point_to_voxel, torch.arange(len(rows)), 'amin')
    counts = tuple(torch.bincount(samples, minlength=int(samples.max()) + 1).tolist())
    return Batch(
        samples, point_to_voxel, coords.int(), grid_shape, (coords[:, 1] + 1) * 0.5, 0, counts, labels, labels[first]
    )


def random_batch(
    seed: int = 0, counts: tuple[int, ...] = (150, 90), grid_shape: tuple[int, int, int] = (8, 12, 4)
) -> Batch:
    """Points at random cells with random labels, of which a tenth is ignored."""
    generator = torch.Generator().manual_seed(seed)
    number = sum(counts)
    cells = torch.stack([torch.randint(0, n, (number,), generator=generator) for n in grid_shape], 1)
    labels = torch.multinomial(torch.tensor([0.5, 0.3, 0.05, 0.05, 0.1]), number, True, generator=generator)
    labels[labels == len(CLASSES)] = IGNORE
    samples = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return batch_of(cells, samples, labels, grid_shape)


def context_of(
    student: Batch | None, teacher: Batch | None = None, step: int = 0, **settings: object
) -> DistillContext:
    """The context of a step; without a batch of its own the teacher has the student's."""
    inputs = {'points': []} if student is None else {'points': [], 'voxels': student}
    teacher_inputs = inputs if teacher is None else {'points': [], 'voxels': teacher}
    return DistillContext(step, {}, {}, inputs, [], teacher_inputs, [], **settings)


def rows(seed: int, count: int, channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random features (count, channels)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, generator=generator, dtype=torch.float64).to(dtype)
