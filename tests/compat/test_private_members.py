"""Private members of upstream classes are where the package expects them, and a renamed one stops it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import LinearLR, OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader

from perception3d.checks import InputError
from perception3d.compat import private_members as members


def optim_wrapper(counts: int) -> OptimWrapper:
    return OptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), accumulative_counts=counts)


def test_values_of_a_config():
    config = Config(dict(a=dict(b=1)))
    members.config_values(config)['a']['b'] = 2
    assert config.a.b == 2 and members.lazy_values(config) == {'a': {'b': 2}}


def test_accumulated_iterations_of_one_and_of_several_optimizers():
    assert members.accumulated_iterations(optim_wrapper(3)) == 3
    assert members.accumulated_iterations(OptimWrapperDict(a=optim_wrapper(2), b=optim_wrapper(5))) == 5
    counts = map(members.accumulated_iterations, (None, {'type': 'OptimWrapper'}, {'accumulative_counts': 4}))
    assert list(counts) == [1, 1, 4]


def test_steps_and_iterations_are_set():
    schedule = LinearLR(optim_wrapper(1))
    assert schedule.optimizer._global_step == -1
    members.expect_no_step_yet(schedule.optimizer)
    assert schedule.optimizer._global_step == 0
    loop = object.__new__(EpochBasedTrainLoop)
    loop._iter = 0
    members.set_iteration(loop, 7)
    assert loop.iter == 7


def test_workers_that_a_loader_keeps_are_ended():
    loader = DataLoader(torch.arange(4), num_workers=1, persistent_workers=True)
    members.end_workers(loader)
    assert [int(item) for item in loader] == [0, 1, 2, 3]
    (worker,) = loader._iterator._workers
    members.end_workers(loader)
    assert not worker.is_alive() and loader._iterator is None
    members.forget_workers(loader)


@pytest.mark.parametrize(
    'function, arguments, name',
    [
        (members.config_values, (), '_cfg_dict'),
        (members.lazy_values, (), '_to_lazy_dict'),
        (members.accumulated_iterations, (), '_accumulative_counts'),
        (members.set_iteration, (1,), '_iter'),
        (members.decide_val_interval, (), '_decide_current_val_interval'),
        (members.expect_no_step_yet, (), '_global_step'),
        (members.forget_workers, (), '_iterator'),
        (members.end_workers, (), '_iterator'),
    ],
)
def test_a_renamed_member_stops(function, arguments, name):
    with pytest.raises(InputError, match=f'types.SimpleNamespace has no {name}, .* requirements/run.txt names'):
        function(SimpleNamespace(), *arguments)


def test_a_data_set_of_another_kind_is_never_loaded(monkeypatch):
    from mmengine.dataset import BaseDataset

    assert not members.is_loaded([1])
    lazy = BaseDataset(lazy_init=True)
    assert not members.is_loaded(lazy)
    lazy._fully_initialized = True
    assert members.is_loaded(lazy)
    monkeypatch.delattr(BaseDataset, '_fully_initialized')
    with pytest.raises(InputError, match='has no _fully_initialized'):
        members.is_loaded(BaseDataset(lazy_init=True))
