"""Shared by distillation losses: checks and pairs the features of student and teacher, and two formulas."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from perception3d.checks import InputError, unknown_name

# Added to a variance: far above the rounding noise of a constant channel, far below the variance of one in use.
VARIANCE_EPS = 1e-6

# A row is divided by this length at least, so that the gradient of a row of zeros stays bounded.
_MIN_LENGTH = 1e-6


def full_precision(tensor: Tensor) -> Tensor:
    """Brings half precision and integers to float32; float32 and float64 stay as they are."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def resampling(value: str | None) -> str | None:
    """Returns the setting `resample` of a loss; raises InputError if it is neither None nor 'bilinear'."""
    return value if value is None else choice('resample', value, ('bilinear',))


def choice(name: str, value: str, known: Sequence[str]) -> str:
    """Returns the setting `value`; raises InputError that names the setting unless it is one of `known`."""
    if value not in known:
        raise unknown_name(name, value, known)
    return value


def different_grids(student: tuple[int, ...], teacher: tuple[int, ...]) -> InputError:
    """Builds the error for maps of the shapes `student` and `teacher` that may not be resized."""
    return InputError(
        f'the student gives {student} and the teacher {teacher}: their grids differ; if both cover the same area, '
        "set resample='bilinear' in the loss, which resizes the teacher's map, else tap maps of one grid"
    )


def paired_features(
    student: Tensor, teacher: Tensor, same_channels: bool = True, resample: str | None = None
) -> tuple[Tensor, Tensor]:
    """Brings features (B, C, ...) of student and teacher to full precision and one shape; detaches the teacher's.

    Args:
        student: (B, C, ...).
        teacher: (B, C, ...); C may differ where `same_channels` is False.
        same_channels: whether both need the same C.
        resample: 'bilinear' resizes the teacher's map (B, C, H, W) to the student's size where it differs, corners not
            aligned: both must cover the same area. None allows no other size.

    Raises:
        InputError: a different number of axes, B or C; different sizes of features that are not maps, or of maps
            without `resample`.
    """
    student_shape, teacher_shape = tuple(student.shape), tuple(teacher.shape)
    if len(student_shape) != len(teacher_shape) or len(student_shape) < 2 or student_shape[0] != teacher_shape[0]:
        raise InputError(
            f'the student gives {student_shape} and the teacher {teacher_shape}: both must be (B, C, ...) of one '
            'batch; '
            'check which modules the link taps'
        )
    if same_channels and student_shape[1] != teacher_shape[1]:
        raise InputError(
            f'the student gives {student_shape} and the teacher {teacher_shape}: give the link an adapter of the '
            f"channels, for maps adapter=dict(type='ConvAdapter', in_channels={student_shape[1]}, "
            f'out_channels={teacher_shape[1]})'
        )
    student, teacher = full_precision(student), full_precision(teacher.detach())
    if student_shape[2:] != teacher_shape[2:]:
        if len(student_shape) != 4:
            raise InputError(
                f'the student gives {student_shape} and the teacher {teacher_shape}: only maps (B, C, H, W) are '
                'resized; '
                'give the link an adapter that makes the sizes equal'
            )
        if resample is None:
            raise different_grids(student_shape, teacher_shape)
        teacher = F.interpolate(teacher, student_shape[2:], mode=resample, align_corners=False)
    return student, teacher


def require_map(student: Tensor) -> None:
    """Raises InputError unless the student's features are a map (B, C, H, W)."""
    if student.dim() != 4:
        raise InputError(
            f'the student gives {tuple(student.shape)}: this loss compares maps (B, C, H, W): tap a module that '
            'returns one'
        )


def paired_maps(
    student: Tensor, teacher: Tensor, same_channels: bool = True, resample: str | None = None
) -> tuple[Tensor, Tensor]:
    """As `paired_features`, and both must be maps (B, C, H, W)."""
    require_map(student)
    return paired_features(student, teacher, same_channels, resample)


def maps_of_one_batch(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Brings two maps of any channels and sizes to full precision; detaches the teacher's.

    Raises:
        InputError: one of them is no map (B, C, H, W), or they are of different batches.
    """
    for features in (student, teacher):
        require_map(features)
    if student.shape[0] != teacher.shape[0]:
        raise InputError(
            f'the student gives {tuple(student.shape)} and the teacher {tuple(teacher.shape)}: both must be of one '
            'batch; check which modules the link taps'
        )
    return full_precision(student), full_precision(teacher.detach())


def paired_logits(student: Tensor, teacher: Tensor, resample: str | None = None) -> tuple[Tensor, Tensor]:
    """As `paired_features`, for class logits (B, K, ...): both need the same K, no adapter can change it."""
    if student.shape[1:2] != teacher.shape[1:2]:
        raise InputError(
            f'the student gives {tuple(student.shape)} and the teacher {tuple(teacher.shape)}: logits need the same '
            'classes in the same order on axis 1; tap class logits of both, or train a teacher for these classes'
        )
    return paired_features(student, teacher, resample=resample)


def paired_samples(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Brings features (B, ...) of any two shapes to full precision; detaches the teacher's.

    For losses that compare the samples of a batch with each other. Warns about a batch of one, which has nothing to
    compare.

    Raises:
        InputError: different batch sizes.
    """
    if student.dim() < 2 or teacher.dim() < 2 or student.shape[0] != teacher.shape[0]:
        raise InputError(
            f'the student gives {tuple(student.shape)} and the teacher {tuple(teacher.shape)}: both must be (B, ...) '
            'of one batch; check which modules the link taps'
        )
    if student.shape[0] == 1:
        warnings.warn('a loss that compares the samples of a batch got a batch of one: it is 0', stacklevel=3)
    return full_precision(student), full_precision(teacher.detach())


def standardise(features: Tensor) -> Tensor:
    """Gives every channel of `features` (B, C, ...) zero mean and unit variance over all other axes.

    The variance is the biased one, plus 1e-6: a constant channel becomes 0 and keeps a finite gradient.
    """
    axes = [axis for axis in range(features.dim()) if axis != 1]
    # Not var_mean, which has no fast path on a CPU for channels-last maps. The first shift is a constant near the mean;
    # the mean of the remainder is exact enough that a constant channel becomes 0 whatever its value.
    shifted = features - features.detach().mean(axes, keepdim=True)
    centred = shifted - shifted.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + VARIANCE_EPS)


def unit_rows(matrix: Tensor) -> Tensor:
    """Divides every row of `matrix` (N, D) by its 2-norm, or by 1e-6 where that is larger."""
    return F.normalize(matrix, eps=_MIN_LENGTH)


def tempered_kl(target: Tensor, other: Tensor, tau: float, dim: int) -> Tensor:
    """Computes tau^2 KL(p || q), p and q the softmax over `dim` of the logits `target` / tau and `other` / tau.

    The factor keeps the size of the gradient about the same for every tau (arXiv 1503.02531, section 2).

    Returns:
        One value for each position, of the shape of the logits without `dim`.
    """
    log_p, log_q = F.log_softmax(target / tau, dim), F.log_softmax(other / tau, dim)
    return (log_p.exp() * (log_p - log_q)).sum(dim) * tau**2


def positive(name: str, value: float) -> float:
    """Returns the setting `value`; raises InputError that names the setting unless it is above 0."""
    if not value > 0:
        raise InputError(f'{name} must be above 0, got {value}')
    return value
