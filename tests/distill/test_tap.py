"""Taps by call index: one of several calls of a shared module, with its gradients."""

from __future__ import annotations

import pytest
import torch
from nets import gap, images, net
from torch import nn

from perception3d.checks import InputError
from perception3d.distill.distiller import Distiller
from perception3d.distill.tap import TapSet


class SharedStage(nn.Module):
    """Three stages, of which the second is called twice, and a head that counts its calls."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.data_preprocessor = net(0).data_preprocessor
        self.first, self.stage, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.head_calls = 0
        self.head.register_forward_hook(lambda *_: setattr(self, 'head_calls', self.head_calls + 1))

    def stages(self, x: torch.Tensor) -> list[torch.Tensor]:
        first = self.first(x)
        second = self.stage(first).tanh()
        return [first, second, self.stage(second)]

    def forward(self, inputs, samples=None, mode='tensor'):
        scores = self.head(self.stages(inputs)[-1])
        return {'loss_head': scores.square().mean()} if mode == 'loss' else scores


def rows() -> torch.Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def test_a_call_index_records_that_call() -> None:
    model = SharedStage(0)
    first, second, third = model.stages(rows())
    texts = ('stage', 'stage@0', 'stage@1', 'stage@0:input[0]', 'stage@1:input[0]', 'head@0')
    with TapSet(model, texts).record() as records:
        scores = model(rows())
    expected = (third, model.stage(first), third, first, second, scores)
    for text, value in zip(texts, expected, strict=True):
        assert torch.equal(records[text], value), text


def test_self_distillation_between_two_calls_has_the_gradients_of_the_first_alone() -> None:
    model, reference = Distiller(SharedStage(0), dict(calls=gap('stage@0', teacher='stage@1'))), SharedStage(0)
    model.loss(rows(), [])['distill.calls.loss'].backward()
    first = reference.first(rows())
    student, teacher = reference.stage(first), reference.stages(rows())[2].detach()
    (student - teacher).square().mean().backward()
    for name in ('first', 'stage'):
        wanted = reference.get_submodule(name).weight.grad
        assert wanted.any()
        torch.testing.assert_close(model.student.get_submodule(name).weight.grad, wanted, rtol=0, atol=0)
    assert model.student.head.weight.grad is None


@pytest.mark.parametrize(('tap', 'head_calls'), [('stage@0', 0), ('stage@1', 0), ('stage', 2)])
def test_a_teacher_stops_after_the_call_that_a_tap_names(tap: str, head_calls: int) -> None:
    teacher = SharedStage(1)
    model = Distiller(SharedStage(0), dict(calls=gap(tap)), teacher=teacher)
    values = {float(model.loss(rows(), [])['distill.calls.value']) for _ in range(2)}
    assert teacher.head_calls == head_calls and len(values) == 1


@pytest.mark.parametrize(
    ('tap', 'message'),
    [
        ('stage@2', r"tap 'stage@2': the forward pass calls stage 2 times: expected @0 to @1"),
        ('head@1:input[0]', r"calls head once, not 2 times: write 'head:input\[0\]'"),
        ('data_preprocessor@1', 'does not call data_preprocessor'),
        ('stgae@1', "'stgae': did you mean 'stage'"),
        ('stage@-1', "invalid tap 'stage@-1'.*'a.b@1'"),
        ('stage@', "invalid tap 'stage@'"),
    ],
)
def test_calls_that_do_not_exist_are_errors(tap: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Distiller(SharedStage(0), dict(calls=gap(tap))).loss(rows(), [])
    with pytest.raises(InputError, match=message):
        Distiller(SharedStage(0), dict(calls=gap('stage', teacher=tap)), teacher=SharedStage(1)).loss(rows(), [])


def test_checkpointed_modules_are_counted_once() -> None:
    model = Distiller(net(0, checkpointing=False), dict(maps=gap('second@0')), teacher=net(1))
    plain = Distiller(net(0), dict(maps=gap('second')), teacher=net(1))
    for each in (model, plain):
        each.loss(images(), [])['distill.maps.loss'].backward()
    for ours, reference in zip(model.student.parameters(), plain.student.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, reference.grad)
