"""Rows of features of the active voxels or of the points of a batch, and what the batch says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import full_precision
from perception3d.structures.point_labels import IGNORE

POINT, VOXEL = 'point', 'voxel'


class Voxels(Protocol):
    """What the losses read of a batch that was divided into voxels, `inputs['voxels']`.

    Attributes:
        point_batch: (P,) sample of each point.
        point_to_voxel: (P,) row of `coords`.
        coords: (M, 4) sample, then three indices of the cell.
        grid_shape: number of cells along the three axes.
        outer_distance_m: (M,) horizontal distance of the cell's outer border to the origin.
        radial_axis: the axis of the grid that counts rings of equal width from the origin; None where there is none.
        point_counts: number of points of each sample.
        point_labels, voxel_labels: (P,) and (M,) class, IGNORE where there is none; None without annotation.
    """

    point_batch: Tensor
    point_to_voxel: Tensor
    coords: Tensor
    grid_shape: tuple[int, int, int]
    outer_distance_m: Tensor
    radial_axis: int | None
    point_counts: tuple[int, ...]
    point_labels: Tensor | None
    voxel_labels: Tensor | None


def batch_voxels(context: DistillContext) -> Voxels:
    """Returns the voxels of the teacher's batch, or those of the student's for a teacher without voxels.

    For equal data preprocessors they are the same. Where they differ, supervoxels are the teacher's: a student on range
    images has pixels in the place of voxels.

    Raises:
        InputError: neither batch has voxels.
    """
    voxels = _voxels(context.teacher_inputs)
    if voxels is None:
        voxels = _voxels(context.inputs)
    if voxels is None:
        raise InputError(
            "neither the student's nor the teacher's batch has 'voxels': this loss is for segmentation networks whose "
            'data_preprocessor is a PointSegPreprocessor; set one with a partition'
        )
    return voxels


def paired_rows(
    student: Tensor, teacher: Tensor, context: DistillContext, of: str, same_channels: bool = True
) -> tuple[Tensor, Tensor]:
    """Brings rows (N, C) of student and teacher to full precision and detaches the teacher's.

    Args:
        student, teacher: (N, C) and (N, C'), one row for each point, or for each active voxel, of the batch.
        context: of the link.
        of: 'point' or 'voxel'.
        same_channels: whether C' must be C.

    Raises:
        InputError: the outputs are not such rows, or voxels of two different partitions.
    """
    voxels = batch_voxels(context)
    shapes = tuple(tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in (student, teacher))
    count = sum(voxels.point_counts) if of == POINT else len(voxels.coords)
    if any(len(shape) != 2 or shape[0] != count for shape in shapes):
        raise InputError(
            f'the student gives {shapes[0]} and the teacher {shapes[1]}: expected rows ({count}, C), one for each '
            f'{of} of the batch; tap {of}_logits or {of}_features of both'
        )
    if same_channels and student.shape[1] != teacher.shape[1]:
        raise InputError(
            f'the student gives {shapes[0]} and the teacher {shapes[1]}: this loss needs the same number of channels '
            'in both: give the link an adapter of rows, LinearAdapter(in_channels, out_channels)'
        )
    if of == VOXEL:
        _require_one_partition(context)
    return full_precision(student), full_precision(teacher.detach())


def points_of_voxels(rows: Tensor, voxels: Voxels) -> Tensor:
    """Gives each point the row of its voxel: (P, C) from (M, C).

    Raises:
        InputError: there is not one row for each voxel.
    """
    if len(rows) != len(voxels.coords):
        raise InputError(
            f'the teacher gives {tuple(rows.shape)} for {len(voxels.coords)} voxels: tap its voxel_logits, or leave '
            'out teacher_of'
        )
    return rows.index_select(0, voxels.point_to_voxel)


def require_channels(student: Tensor, teacher: Tensor, channels: tuple[int, int]) -> None:
    """Raises InputError unless rows (N, C) and (N, C') have the channels that a loss was made for."""
    widths = student.shape[1], teacher.shape[1]
    if widths != channels:
        raise InputError(
            f'the layers are made for {channels[0]} and {channels[1]} channels of student and teacher, but the '
            f'features have {widths[0]} and {widths[1]}: set student_channels and teacher_channels of the loss'
        )


def labels_of(voxels: Voxels, of: str) -> Tensor:
    """The class (N,) of each point or voxel; InputError where the batch has no annotation."""
    labels = voxels.point_labels if of == POINT else voxels.voxel_labels
    if labels is None:
        raise InputError(
            f'the batch has no labels of its {of}s, which this loss needs: load them in the training pipeline '
            '(LoadPointLabels)'
        )
    return labels


def rows_of_samples(voxels: Voxels, of: str) -> list[int]:
    """Number of rows of each sample: points and voxels of a batch are one sample after another."""
    if of == POINT:
        return list(voxels.point_counts)
    counts: list[int] = torch.bincount(voxels.coords[:, 0], minlength=len(voxels.point_counts)).tolist()
    return counts


def samples_of(voxels: Voxels, of: str) -> Tensor:
    """The sample (N,) of each point or voxel."""
    return voxels.point_batch if of == POINT else voxels.coords[:, 0].long()


def is_labelled(voxels: Voxels, of: str) -> Tensor:
    """Whether each point or voxel (N,) has a class."""
    return labels_of(voxels, of) != IGNORE


def _voxels(inputs: Any) -> Any:
    return inputs.get('voxels') if isinstance(inputs, Mapping) else None


def _require_one_partition(context: DistillContext) -> None:
    voxels, teacher = _voxels(context.inputs), _voxels(context.teacher_inputs)
    if voxels is teacher and voxels is not None:
        return
    fix = 'give both the same data_preprocessor, or compare points: their logits and features exist in any partition'
    if voxels is None or teacher is None:
        side = 'student' if voxels is None else 'teacher'
        raise InputError(f"voxels are compared, but the {side}'s batch has none: {fix}")
    if voxels.coords.shape != teacher.coords.shape or not torch.equal(voxels.coords, teacher.coords):
        raise InputError(
            f'the student has {len(voxels.coords)} voxels and the teacher {len(teacher.coords)}, or at other places: '
            f'{fix}'
        )
