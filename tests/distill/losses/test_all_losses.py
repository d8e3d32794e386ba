"""What every general distillation loss keeps: shapes, precision, gradients, the teacher left alone, helpful errors."""

from __future__ import annotations

import pytest
import torch
from general_losses import FEATURES, FREE_OF_CHANNELS, LOGITS
from torch import Tensor, nn
from torch.nn import functional as F

from perception3d.checks import InputError
from perception3d.distill.losses.attention_transfer import AttentionTransfer
from perception3d.distill.losses.balance import BalanceDivergence
from perception3d.distill.losses.channel_wise import ChannelWiseKD
from perception3d.distill.losses.correlation import CorrelationCongruence
from perception3d.distill.losses.heatmap import HeatmapKD
from perception3d.distill.losses.logits import LogitKL
from perception3d.registry import MODELS

LOSSES = FEATURES | LOGITS | FREE_OF_CHANNELS
# Losses of maps that are compared place by place.
RESIZED = [*FEATURES, *LOGITS, 'attention']


def build(name: str, **settings: object) -> nn.Module:
    return MODELS.build(dict(LOSSES[name], **settings))


def random_map(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize('name', LOSSES)
def test_loss_is_a_positive_float32_scalar_and_leaves_the_teacher_alone(name: str) -> None:
    student = random_map(0, 3, 4, 5, 6).requires_grad_()
    teacher = random_map(1, 3, 4, 5, 6).requires_grad_()
    before = teacher.detach().clone()
    loss = build(name)(student, teacher, None)
    loss.backward()
    assert loss.shape == () and loss.dtype == torch.float32 and loss > 0
    assert student.grad.isfinite().all() and student.grad.abs().sum() > 0
    assert teacher.grad is None and torch.equal(teacher.detach(), before)
    assert not list(build(name).state_dict())


@pytest.mark.parametrize('name', [name for name in LOSSES if LOSSES[name].get('normalise') is None])
def test_identical_outputs_have_no_loss_and_no_gradient(name: str) -> None:
    student = random_map(2, 3, 4, 5, 6).requires_grad_()
    loss = build(name)(student, student.detach().clone(), None)
    loss.backward()
    assert abs(loss.item()) < 1e-10
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize('name', LOSSES)
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    loss = build(name)
    student = random_map(3, 2, 3, 2, 3, dtype=torch.float64).requires_grad_()
    teacher = random_map(4, 2, 3, 2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, None), student, atol=1e-7)


@pytest.mark.parametrize('name', LOSSES)
def test_bf16_outputs_are_compared_in_float32(name: str) -> None:
    student, teacher = (30 * random_map(seed, 3, 4, 5, 6, dtype=torch.bfloat16) for seed in (5, 6))
    student.requires_grad_()
    loss = build(name)(student, teacher, None)
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert torch.equal(loss, build(name)(student.float(), teacher.float(), None))
    loss.backward()
    assert student.grad.dtype == torch.bfloat16 and student.grad.isfinite().all()


@pytest.mark.parametrize('name', RESIZED)
def test_larger_map_of_the_teacher_is_resized_to_the_students_where_that_is_stated(name: str) -> None:
    student, teacher = random_map(7, 2, 4, 3, 5), random_map(8, 2, 4, 6, 10)
    # At half the size, bilinear samples without aligned corners are the means of four pixels.
    expected = build(name)(student, F.avg_pool2d(teacher, 2), None)
    assert torch.allclose(build(name, resample='bilinear')(student, teacher, None), expected, atol=1e-6)


@pytest.mark.parametrize('name', RESIZED)
def test_smaller_map_of_the_teacher_is_resized_where_that_is_stated(name: str) -> None:
    student = random_map(9, 2, 4, 6, 10).requires_grad_()
    loss = build(name, resample='bilinear')(student, random_map(10, 2, 4, 3, 4), None)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all() and student.grad.abs().sum() > 0


@pytest.mark.parametrize('name', RESIZED)
def test_another_grid_without_a_stated_resampling_is_an_error_with_both_shapes_and_the_option(name: str) -> None:
    student, teacher = random_map(7, 2, 4, 3, 5), random_map(8, 2, 4, 6, 10)
    with pytest.raises(InputError, match=r"\(2, 4, 3, 5\).*\(2, 4, 6, 10\).*grids differ.*resample='bilinear'"):
        build(name)(student, teacher, None)
    with pytest.raises(InputError, match="unknown resample 'linear': did you mean 'bilinear'"):
        build(name, resample='linear')


@pytest.mark.parametrize('name', ['similarity', 'correlation'])
def test_relations_of_samples_need_no_equal_grids(name: str) -> None:
    student, teacher = random_map(7, 2, 4, 3, 5), random_map(8, 2, 4, 6, 10)
    assert build(name)(student, teacher, None) > 0


@pytest.mark.parametrize('name', FEATURES | LOGITS)
def test_other_channels_or_classes_are_an_error_that_names_the_fix(name: str) -> None:
    fix = "'ConvAdapter', in_channels=4, out_channels=6" if name in FEATURES else 'same classes'
    with pytest.raises(InputError, match=fix):
        build(name)(random_map(11, 2, 4, 3, 3), random_map(12, 2, 6, 3, 3), None)


@pytest.mark.parametrize('name', FREE_OF_CHANNELS)
def test_other_channels_are_allowed(name: str) -> None:
    student, teacher = random_map(11, 2, 4, 3, 3), random_map(12, 2, 6, 3, 3)
    assert build(name)(student, teacher, None) > 0
    # Channels that are all zero change neither attention nor similarity.
    padded = F.pad(teacher, (0, 0, 0, 0, 0, 3))
    assert build(name)(teacher, padded, None) < 1e-10


@pytest.mark.parametrize('name', FREE_OF_CHANNELS)
def test_scale_of_either_side_does_not_matter(name: str) -> None:
    student, teacher = random_map(13, 3, 4, 3, 3), random_map(14, 3, 5, 3, 3)
    expected = build(name)(student, teacher, None)
    assert torch.allclose(build(name)(100 * student, 0.01 * teacher, None), expected, rtol=1e-4)


@pytest.mark.parametrize('name', LOSSES)
def test_another_batch_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match='of one batch'):
        build(name)(random_map(15, 2, 4, 3, 3), random_map(16, 3, 4, 3, 3), None)


@pytest.mark.parametrize('name', ['attention', 'channel-wise', 'pearson'])
def test_losses_of_maps_refuse_vectors(name: str) -> None:
    with pytest.raises(InputError, match='compares maps'):
        build(name)(random_map(17, 2, 4), random_map(18, 2, 4), None)


@pytest.mark.parametrize('name', ['mse', *LOGITS])
def test_other_numbers_of_points_are_an_error(name: str) -> None:
    with pytest.raises(InputError, match='only maps'):
        build(name)(random_map(19, 2, 4, 7), random_map(20, 2, 4, 8), None)


@pytest.mark.parametrize('name', ['mse', *LOGITS])
def test_no_points_have_no_loss(name: str) -> None:
    student = torch.zeros(0, 4, requires_grad=True)
    loss = build(name)(student, torch.zeros(0, 4), None)
    loss.backward()
    assert loss == 0 and student.grad.shape == (0, 4)


@pytest.mark.parametrize('name', LOSSES)
def test_dead_student_has_finite_loss_and_gradient(name: str) -> None:
    student = torch.zeros(2, 4, 3, 3, requires_grad=True)
    loss = build(name)(student, random_map(21, 2, 4, 3, 3), None)
    loss.backward()
    assert loss > 0 and student.grad.isfinite().all()


@pytest.mark.parametrize('name', ['channel-wise', *LOGITS])
def test_huge_logits_have_finite_loss_and_gradient(name: str) -> None:
    student = (1e4 * random_map(22, 2, 4, 3, 3)).requires_grad_()
    loss = build(name)(student, 1e4 * random_map(23, 2, 4, 3, 3), None)
    loss.backward()
    assert loss.isfinite() and loss > 0 and student.grad.isfinite().all()


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(type=ChannelWiseKD, tau=0.0), 'tau must be above 0'),
        (dict(type=LogitKL, tau=-1.0), 'tau must be above 0'),
        (dict(type=BalanceDivergence, reverse_tau=0.0), 'reverse_tau must be above 0'),
        (dict(type=BalanceDivergence, reverse_weight=-1.0), 'reverse_weight'),
        (dict(type=AttentionTransfer, p=0.5), 'p must be at least 1'),
        (dict(type=CorrelationCongruence, gamma=0.0), 'gamma must be above 0'),
        (dict(type=CorrelationCongruence, order=0), 'order must be at least 1'),
        (dict(type=HeatmapKD, mask='sofft'), "did you mean 'soft'"),
        (dict(type=HeatmapKD, score_thr=1.0), 'score_thr'),
    ],
)
def test_invalid_settings_are_errors(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MODELS.build(settings)
