"""What distillation losses share: bringing the outputs of student and teacher to one shape, and two formulas."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

from perception3d.checks import InputError, unknown_name

# Added to a variance: far above the rounding noise of a constant channel, far below the variance of one in use.
VARIANCE_EPS = 1e-6

# A shorter row is not stretched to length 1, so that the gradient of a row of zeros stays bounded.
_SHORTEST_ROW = 1e-6


def full_precision(tensor: Tensor) -> Tensor:
    """Brings half precision and integers to float32; float32 and float64 stay as they are."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def resampling(value: str | None) -> str | None:
    """Returns the setting `resample` of a loss; raises InputError for what is neither None nor 'bilinear'."""
    if value not in (None, 'bilinear'):
        raise unknown_name('resample', value, ('bilinear',))
    return value


def other_grid(student: tuple[int, ...], teacher: tuple[int, ...]) -> InputError:
    """Builds the error for maps of the shapes `student` and `teacher` that no setting allows to resize."""
    return InputError(
        f'the student gives {student} and the teacher {teacher}: their grids differ; if both cover the same place, '
        "give the loss resample='bilinear', which resizes the teacher's map, else tap maps of one grid"
    )


def paired_features(
    student: Tensor, teacher: Tensor, same_channels: bool = True, resample: str | None = None
) -> tuple[Tensor, Tensor]:
    """Brings outputs (B, C, ...) of student and teacher to full precision and one shape, the teacher's detached.

    Args:
        student: (B, C, ...).
        teacher: (B, C, ...); C may be another where `same_channels` is False.
        same_channels: whether both need the same C.
        resample: 'bilinear' resizes the teacher's map (B, C, H, W) to the student's size where it differs, corners not
            aligned: both must cover the same place. None allows no other size.

    Raises:
        InputError: for another number of axes, B or C, for other sizes of what are not maps, or for maps of other sizes
            without `resample`.
    """
    own, other = tuple(student.shape), tuple(teacher.shape)
    if len(own) != len(other) or len(own) < 2 or own[0] != other[0]:
        raise InputError(
            f'the student gives {own} and the teacher {other}: both must be (B, C, ...) of one batch; '
            'check which modules the link taps'
        )
    if same_channels and own[1] != other[1]:
        raise InputError(
            f'the student gives {own} and the teacher {other}: give the link an adapter of the channels, for maps '
            f"adapter=dict(type='ConvAdapter', in_channels={own[1]}, out_channels={other[1]})"
        )
    student, teacher = full_precision(student), full_precision(teacher.detach())
    if own[2:] != other[2:]:
        if len(own) != 4:
            raise InputError(
                f'the student gives {own} and the teacher {other}: only maps (B, C, H, W) are resized; '
                'give the link an adapter that makes the sizes equal'
            )
        if resample is None:
            raise other_grid(own, other)
        teacher = F.interpolate(teacher, own[2:], mode=resample, align_corners=False)
    return student, teacher


def paired_maps(
    student: Tensor, teacher: Tensor, same_channels: bool = True, resample: str | None = None
) -> tuple[Tensor, Tensor]:
    """As `paired_features`, and both must be maps (B, C, H, W)."""
    if student.dim() != 4:
        raise InputError(f'the student gives {tuple(student.shape)}: this loss compares maps (B, C, H, W)')
    return paired_features(student, teacher, same_channels, resample)


def paired_logits(student: Tensor, teacher: Tensor, resample: str | None = None) -> tuple[Tensor, Tensor]:
    """As `paired_features`, for class logits (B, K, ...): no adapter mends another K."""
    if student.shape[1:2] != teacher.shape[1:2]:
        raise InputError(
            f'the student gives {tuple(student.shape)} and the teacher {tuple(teacher.shape)}: logits need the same '
            'classes in the same order on axis 1; tap class logits of both, or train a teacher for these classes'
        )
    return paired_features(student, teacher, resample=resample)


def paired_samples(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Brings outputs (B, ...) of any two shapes to full precision, the teacher's detached.

    For losses that compare the samples of a batch with each other. A batch of one has nothing to compare: it warns.

    Raises:
        InputError: for another B.
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
    # Not var_mean, which has no fast path on a CPU where the channels lie innermost. The first shift is a constant near
    # the mean; the mean of what is left is exact enough that a constant channel becomes 0 whatever its value.
    shifted = features - features.detach().mean(axes, keepdim=True)
    centred = shifted - shifted.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + VARIANCE_EPS)


def unit_rows(matrix: Tensor) -> Tensor:
    """Divides every row of `matrix` (N, D) by its 2-norm; a row below 1e-6 by 1e-6."""
    return F.normalize(matrix, eps=_SHORTEST_ROW)


def tempered_kl(target: Tensor, other: Tensor, tau: float, dim: int) -> Tensor:
    """Computes tau^2 KL(p || q), p and q the softmax over `dim` of the logits `target` / tau and `other` / tau.

    The factor keeps the size of the gradient about the same for every tau (arXiv 1503.02531, section 2).

    Returns:
        One value for each position, of the shape of the logits without `dim`.
    """
    log_p, log_q = F.log_softmax(target / tau, dim), F.log_softmax(other / tau, dim)
    return (log_p.exp() * (log_p - log_q)).sum(dim) * tau**2


def positive(name: str, value: float) -> float:
    """Returns the setting `value`; raises InputError that calls it `name` unless it is above 0."""
    if not value > 0:
        raise InputError(f'{name} must be above 0, got {value}')
    return value
