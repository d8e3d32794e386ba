"""Parameters that are frozen for a part of the training."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from nets import gap, images, in_a_group_of_one, net
from torch.optim.optimizer import _global_optimizer_pre_hooks

from perception3d.checks import InputError
from perception3d.distill import distiller
from perception3d.distill.distiller import Distiller


@pytest.fixture
def at(monkeypatch):
    """Sets the iteration of a training of 100."""

    def go(step):
        monkeypatch.setattr(distiller, '_progress', lambda: (step, 100))

    go(0)
    return go


def frozen(freeze=('first.*', 'norm.bias'), until=0.25):
    return Distiller(net(0), dict(a=gap()), teacher=net(1), freeze=freeze, freeze_until=until)


def step(model, optimizer):
    optimizer.zero_grad()
    losses = model(images(), [], mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    optimizer.step()


NAMES = {'first.weight', 'first.bias', 'norm.bias'}


@pytest.mark.parametrize('wrapped', [False, True], ids=['alone', 'for several processes'])
def test_frozen_parameters_are_constant_and_are_trained_after_that(at, tmp_path, wrapped):
    model = frozen()
    begin = copy.deepcopy(model.student.state_dict())
    assert all(p.requires_grad for p in model.student.parameters())

    def train():
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        run = torch.nn.parallel.DistributedDataParallel(model) if wrapped else model
        for number in (0, 10, 24):
            at(number)
            step(run, optimizer)
        now = dict(model.student.named_parameters())
        assert {name for name in now if torch.equal(now[name], begin[name])} == NAMES
        at(25)
        step(run, optimizer)
        assert not any(torch.equal(now[name], begin[name]) for name in now)

    if wrapped:
        in_a_group_of_one(tmp_path, train)
    else:
        train()


def test_frozen_gradients_are_zero_so_that_they_do_not_count_in_clipping(at):
    model = frozen()
    losses = model(images(), [], mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    zero = {name for name, p in model.student.named_parameters() if not p.grad.any()}
    assert zero == NAMES


def test_a_copy_is_not_frozen_and_hooks_end_with_the_model(at):
    gc.collect()  # the models of other tests
    hooks = len(_global_optimizer_pre_hooks)
    model = frozen()
    twin = copy.deepcopy(model)
    assert len(_global_optimizer_pre_hooks) == hooks + 1
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    before = twin.student.first.weight.clone()
    step(twin, optimizer)
    assert not torch.equal(twin.student.first.weight, before)
    del model, twin, optimizer
    gc.collect()
    assert len(_global_optimizer_pre_hooks) == hooks


def test_mistakes_are_errors_that_name_them():
    with pytest.raises(InputError, match='freeze_until: .*share of the training'):
        frozen(until=1.5)
    with pytest.raises(InputError, match='freeze_until=0.25 needs freeze'):
        frozen(freeze=())
    with pytest.raises(InputError, match="'frist.weight': did you mean 'first.weight'"):
        frozen(freeze=('frist.weight',))
