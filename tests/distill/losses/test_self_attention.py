"""SAD: the loss by loops, which normalisations have a gradient, and what the log says of a pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from nets import Net, images, net
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.self_attention import (
    NORMS,
    SelfAttentionKD,
    attention_map,
    relative_entropy,
    self_attention_loss,
)


def maps(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def deep_activations(seed: int, *shape: int) -> Tensor:
    """Maps whose sums of squares are thousands with a spread of thousands, as those of a fresh ENet."""
    places = 1 + maps(seed, shape[0], 1, *shape[2:]).abs()
    return 8 * places * maps(seed + 1, *shape)


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes (H, W) without aligned corners, one pixel at a time."""
    result = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            at = [
                min(max((n + 0.5) * old / new - 0.5, 0), old - 1)
                for n, old, new in zip((y, x), image.shape, size, strict=True)
            ]
            low = [math.floor(value) for value in at]
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                row, column = min(low[0] + dy, image.shape[0] - 1), min(low[1] + dx, image.shape[1] - 1)
                share = (1 - abs(at[0] - low[0] - dy)) * (1 - abs(at[1] - low[1] - dx))
                result[y, x] += share * image[row, column]
    return result


def slow_map(features: np.ndarray, size: tuple[int, int], p: float, channels: str, norm: str, t: float) -> np.ndarray:
    total = sum(np.abs(channel) ** p for channel in features)
    strength = bilinear(total if channels == 'sum' else total / len(features), size).ravel()
    if norm in ('l2', 'sum1'):
        return strength / (math.sqrt((strength**2).sum()) if norm == 'l2' else strength.sum())
    if norm == 'zsoftmax':
        strength = (strength - strength.mean()) / math.sqrt(strength.var() + 1e-6)
    powers = [math.exp((value - strength.max()) / t) for value in strength]
    return np.array(powers) / sum(powers)


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('p, channels, t, size', [(2.0, 'sum', 1.0, None), (1.5, 'mean', 0.5, (6, 9))])
def test_loss_is_that_of_loops(norm: str, p: float, channels: str, t: float, size: tuple[int, int] | None) -> None:
    student, teacher = maps(0, 2, 3, 4, 6), maps(2, 2, 5, 2, 3)
    wanted = [
        (slow_map(s, size or (4, 6), p, channels, norm, t) - slow_map(d, size or (4, 6), p, channels, norm, t)) ** 2
        for s, d in zip(student.numpy(), teacher.numpy(), strict=True)
    ]
    loss = self_attention_loss(student, teacher, size, p, channels, norm, t)
    assert float(loss) == pytest.approx(float(np.sum(wanted)) / 2, rel=1e-9)


def gradient(**settings: object) -> Tensor:
    student, teacher = deep_activations(0, 2, 16, 12, 20).float().requires_grad_(), deep_activations(5, 2, 16, 6, 10)
    self_attention_loss(student, teacher.float(), **settings).backward()
    assert student.grad is not None
    return student.grad


@pytest.mark.parametrize('settings', [{}, dict(norm='l2'), dict(norm='softmax', channels='mean', temperature=100.0)])
def test_gradient_is_above_zero(settings: dict) -> None:
    assert gradient(**settings).norm() > 1e-8


def test_the_literal_softmax_of_sums_of_squares_is_one_hot_and_has_no_gradient() -> None:
    assert attention_map(deep_activations(0, 2, 16, 12, 20).float(), (12, 20), norm='softmax').amax(1).eq(1).all()
    assert not gradient(norm='softmax').any()


@pytest.mark.parametrize('norm', NORMS)
def test_gradient_is_that_of_finite_differences(norm: str) -> None:
    student, teacher = maps(3, 2, 3, 3, 4).requires_grad_(), maps(4, 2, 2, 2, 2)
    assert torch.autograd.gradcheck(lambda s: 100 * self_attention_loss(s, teacher, norm=norm), student, atol=1e-6)


def test_gradients_of_the_norms_are_of_different_orders() -> None:
    sizes = {norm: float(gradient(norm=norm).norm()) for norm in NORMS}
    assert sizes['zsoftmax'] > sizes['l2'] > 20 * sizes['sum1'] > 0 == sizes['softmax']


def test_the_scale_of_features_does_not_matter_and_the_target_has_no_gradient() -> None:
    student, teacher = maps(0, 2, 3, 4, 6).requires_grad_(), maps(1, 2, 5, 4, 6).requires_grad_()
    loss = self_attention_loss(student, teacher)
    torch.testing.assert_close(self_attention_loss(9 * student, 0.5 * teacher), loss, rtol=1e-4, atol=0)
    loss.backward()
    assert student.grad is not None and teacher.grad is None
    dead = torch.zeros(1, 3, 4, 6, requires_grad=True)
    self_attention_loss(dead, teacher[:1]).backward()
    assert dead.grad is not None and dead.grad.isfinite().all()


def test_entropy_is_one_of_an_even_map_and_zero_of_one_position() -> None:
    assert float(relative_entropy(torch.full((3, 8), 0.2))) == pytest.approx(1)
    assert float(relative_entropy(torch.eye(8)[:2])) == pytest.approx(0)
    assert float(relative_entropy(torch.tensor([[1.0, 1.0, 0.0, 0.0]]))) == pytest.approx(0.5)


class TwoStages(Net):
    """A net that calls one stage twice, as an ENet whose last stages share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Conv2d(4, 4, 3, stride=2, padding=1)

    def features(self, x: Tensor) -> Tensor:
        return self.stage(self.stage(super().features(x)))


def test_pairs_of_one_network_and_what_the_log_says_of_them() -> None:
    torch.manual_seed(0)
    loss = dict(type=SelfAttentionKD)
    links = dict(
        two_three=dict(student='second', teacher='stage@0', loss=loss, weight=0.1, start=1, log_gradient=True),
        three_four=dict(student='stage@0', teacher='stage@1', loss=dict(loss, resize='input'), weight=0.1, ramp=4),
    )
    model = Distiller(TwoStages(), links)
    losses = model.loss(images(), [])
    assert {name.rpartition('.')[2] for name in losses if 'three_four' in name} == {
        'loss', 'value', 'scale', 'entropy', 'target_entropy',
    }  # fmt: skip
    assert float(losses['distill.three_four.scale']) == pytest.approx(0.1 / 4)
    assert not any('two_three' in name for name in losses)  # before its start
    with model._student_taps.record() as taps:
        model.student(images())
    assert set(taps) == {'second', 'stage@0', 'stage@1'}


def test_the_logged_gradient_is_that_of_the_weighted_term_at_the_tap() -> None:
    link = dict(student='first', teacher='second', loss=dict(type=SelfAttentionKD), weight=0.1, log_gradient=True)
    model = Distiller(net(0), dict(pair=link))
    losses = model.loss(images(), [])
    ours = net(0)
    first = ours.first(images())
    deep = ours.second(ours.relu(ours.norm(first)))
    loss = 0.1 * self_attention_loss(first, deep)
    (wanted,) = torch.autograd.grad(loss, first)
    torch.testing.assert_close(losses['distill.pair.gradient'], wanted.norm())
    assert wanted.norm() > 0
    losses['distill.pair.loss'].backward()  # the graph is still there
    assert model.student.first.weight.grad.any()


class Misnamed(SelfAttentionKD):
    """A loss with a measure that would be summed."""

    def measures(self, student: Tensor, teacher: Tensor, context: object = None) -> dict[str, Tensor]:
        return {'lossless': student.mean()}


def test_a_measure_with_a_name_that_would_be_summed_is_refused() -> None:
    model = Distiller(net(0), dict(pair=dict(student='first', teacher='second', loss=dict(type=Misnamed))))
    with pytest.raises(InputError, match="Misnamed measures 'lossless': 'loss' marks what is summed"):
        model.loss(images(), [])


def test_settings_and_inputs_are_checked() -> None:
    with pytest.raises(InputError, match="did you mean 'zsoftmax'"):
        SelfAttentionKD(norm='z-softmax')
    with pytest.raises(InputError, match='temperature must be above 0'):
        SelfAttentionKD(temperature=0.0)
    with pytest.raises(InputError, match='p is 0.5: expected 1 or more'):
        SelfAttentionKD(p=0.5)
    with pytest.raises(InputError, match='of one batch'):
        self_attention_loss(maps(0, 2, 3, 4, 4), maps(0, 3, 3, 4, 4))
    with pytest.raises(InputError, match='compares maps'):
        self_attention_loss(maps(0, 2, 3, 4, 4), maps(0, 2, 3))
    with pytest.raises(InputError, match="no image .* set resize='target'"):
        SelfAttentionKD(resize='input')(maps(0, 2, 3, 4, 4), maps(1, 2, 3, 4, 4), None)
