"""Splits the outputs of networks (maps, points, pillars, sparse voxels) into one set of vectors per sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from perception3d.checks import InputError
from perception3d.distill.context import DistillContext
from perception3d.distill.losses.maps import full_precision, paired_features

# More cells than any voxel grid has along an axis; the number of samples times its cube fits into 64 bits.
_AXIS = 2**15


class VectorSets(NamedTuple):
    """The vectors of student and teacher at equal places, one entry for each sample that has vectors.

    Attributes:
        student: tensors (V, Cs).
        teacher: tensors (V, Ct), detached.
        counts: tensors (V,) of the number of points in each voxel; None where the features are not voxels of the batch.
        layout: 'voxels', 'maps' or 'points'.
    """

    student: list[Tensor]
    teacher: list[Tensor]
    counts: list[Tensor] | None
    layout: str


def vector_sets(
    student: Any,
    teacher: Any,
    context: DistillContext | None,
    channels: tuple[int, int] | None = None,
    resample: str | None = None,
) -> VectorSets:
    """Splits the outputs of both networks into vectors by sample.

    - Rows (V, C) are the voxels of the batch, as voxel encoders return them; `inputs['voxels']['coors']` of the
      context, (V, 4) of sample, z, y, x, has their places, and 'num_points' their numbers of points.
    - Pairs of rows and coordinates (V, 4), and sparse tensors with `features` and `indices`, contain their places.
    - Maps (B, C, H, W) and points (B, C, N): every position is a vector.

    Args:
        student, teacher: the outputs, both in the same one of these forms.
        context: of the link; needed for rows only.
        channels: expected channels of student and teacher; None for any.
        resample: for maps of two sizes, see `paired_features`.

    Raises:
        InputError: other outputs or channels, or different voxels of student and teacher.
    """
    sets = _split_by_sample(student, teacher, context, resample)
    if sets.student and channels is not None:
        widths = sets.student[0].shape[1], sets.teacher[0].shape[1]
        if widths != channels:
            raise InputError(
                f'the layers are made for {channels[0]} and {channels[1]} channels of student and teacher, but the '
                f'features have {widths[0]} and {widths[1]}: set student_channels and teacher_channels of the loss'
            )
    return sets


def _split_by_sample(student: Any, teacher: Any, context: DistillContext | None, resample: str | None) -> VectorSets:
    if isinstance(student, Tensor) and isinstance(teacher, Tensor):
        if student.dim() in (3, 4):
            return _of_positions(student, teacher, resample)
        if student.dim() == teacher.dim() == 2:
            return _of_batch_voxels(student, teacher, context)
    student_sparse, teacher_sparse = _sparse(student), _sparse(teacher)
    if student_sparse is None or teacher_sparse is None:
        outputs = [str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in (student, teacher)]
        raise InputError(
            f'student and teacher give {outputs[0]} and {outputs[1]}: expected rows of voxels (V, C), maps (B, C, H, '
            'W), '
            'points (B, C, N), sparse tensors or pairs (rows, coordinates), in the same form for both'
        )
    sides = student_sparse, teacher_sparse
    orders = [_order(coordinates) for _, coordinates in sides]
    places = [coordinates[order] for (_, coordinates), order in zip(sides, orders)]
    if not torch.equal(*places):
        raise InputError(
            f'the student has {len(places[0])} voxels and the teacher {len(places[1])}, or at other places: '
            'give both the same voxel size, range and strides'
        )
    rows = [full_precision(features)[order] for (features, _), order in zip(sides, orders)]
    sizes = _sizes(places[0][:, 0])
    return VectorSets(_split(rows[0], sizes), _split(rows[1].detach(), sizes), None, 'voxels')


def _of_positions(student: Tensor, teacher: Tensor, resample: str | None) -> VectorSets:
    layout = 'maps' if student.dim() == 4 else 'points'
    student, teacher = paired_features(student, teacher, same_channels=False, resample=resample)
    if not student.numel():
        return VectorSets([], [], None, layout)
    vectors, teacher_vectors = (list(x.flatten(2).transpose(1, 2).unbind(0)) for x in (student, teacher))
    return VectorSets(vectors, teacher_vectors, None, layout)


def _of_batch_voxels(student: Tensor, teacher: Tensor, context: DistillContext | None) -> VectorSets:
    voxels, teacher_voxels = _voxels(context, 'inputs'), _voxels(context, 'teacher_inputs')
    places, counts = voxels['coors'], teacher_voxels.get('num_points')
    if voxels is not teacher_voxels and not torch.equal(places, teacher_voxels['coors']):
        raise InputError(
            f'the student has {len(places)} voxels and the teacher {len(teacher_voxels["coors"])}, or at other '
            'places: give both the same data_preprocessor'
        )
    if not len(student) == len(teacher) == len(places):
        raise InputError(
            f'the student gives {len(student)} rows and the teacher {len(teacher)} for {len(places)} voxels: tap the '
            'voxel encoders'
        )
    student, teacher, sample = full_precision(student), full_precision(teacher.detach()), places[:, 0].long()
    if bool((sample.diff() < 0).any()):
        order = sample.argsort(stable=True)
        student, teacher, sample = student[order], teacher[order], sample[order]
        counts = None if counts is None else counts[order]
    sizes = _sizes(sample)
    split_counts = None if counts is None else _split(counts, sizes)
    return VectorSets(_split(student, sizes), _split(teacher, sizes), split_counts, 'voxels')


def _voxels(context: DistillContext | None, name: str) -> Mapping[str, Tensor]:
    inputs = getattr(context, name, None)
    voxels = inputs.get('voxels') if isinstance(inputs, Mapping) else None
    if not isinstance(voxels, Mapping) or 'coors' not in voxels:
        raise InputError(
            "rows (V, C) are voxels, but the batch has no 'voxels' with 'coors': tap maps, or an encoder that returns "
            'rows and coordinates'
        )
    return voxels


def _sparse(value: Any) -> tuple[Tensor, Tensor] | None:
    """Rows and their coordinates (V, 4); None if the output is not sparse."""
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(x, Tensor) for x in value):
        rows, coordinates = value
    else:
        rows, coordinates = getattr(value, 'features', None), getattr(value, 'indices', None)
    valid = isinstance(rows, Tensor) and isinstance(coordinates, Tensor) and rows.dim() == coordinates.dim() == 2
    return (rows, coordinates.long()) if valid and len(rows) == len(coordinates) else None


def _order(coordinates: Tensor) -> Tensor:
    """The order of voxels by sample, z, y, x: sparse convolutions may list equal voxels differently."""
    sample, z, y, x = coordinates.unbind(1)
    return (((sample * _AXIS + z) * _AXIS + y) * _AXIS + x).argsort(stable=True)


def _sizes(sample: Tensor) -> list[int]:
    return [size for size in torch.bincount(sample).tolist() if size]


def _split(rows: Tensor, sizes: list[int]) -> list[Tensor]:
    return list(rows.split(sizes)) if sizes else []
