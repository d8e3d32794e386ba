"""Averaged weights of a distilled training: what is averaged, saved, tested and resumed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import nn

from perception3d.apis.config import load_config
from perception3d.apis.option_texts import parse_options
from perception3d.apis.runner import build_runner
from perception3d.apis.testing import test as run_test
from perception3d.apis.training import train
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.engine.averaging import AveragedWeightsHook

PLUGIN = Path(__file__).resolve().parents[1] / 'plugin'
CONFIG = PLUGIN / 'averaged_config.py'
MOMENTUM = 0.25


@HOOKS.register_module()
class StudentWeights(Hook):
    """Keeps the student's weights after each iteration."""

    seen: list = []

    def after_train_iter(self, runner, *_, **__):
        StudentWeights.seen.append({name: value.clone() for name, value in runner.model.student.state_dict().items()})


@pytest.fixture(scope='module')
def options(tmp_path_factory):
    """Options of a training from a random teacher, which writes a checkpoint each epoch of six iterations."""
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 2))
    torch.save({'state_dict': {f'net.{name}': value for name, value in net.state_dict().items()}, 'meta': {}}, path)
    return [
        f'model.teacher_checkpoint={path}',
        f'averaging_momentum={MOMENTUM}',
        'default_hooks.checkpoint.interval=6',
        'default_hooks.checkpoint.max_keep_ckpts=9',
    ]


@pytest.fixture(scope='module')
def whole(options, tmp_path_factory):
    """The folder of a training of three epochs, its runner, and the student after each iteration."""
    folder = tmp_path_factory.mktemp('whole')
    StudentWeights.seen = []
    config = load_config(CONFIG, parse_options([*options, 'train_cfg.max_epochs=3']))
    config.custom_hooks.append(dict(type=StudentWeights))
    runner = build_runner(config, folder)
    runner.train()
    return folder, runner, list(StudentWeights.seen)


def _content(folder, iteration=18):
    return torch.load(folder / f'iter_{iteration}.pth', weights_only=False)


def test_a_checkpoint_holds_the_average_of_the_student_and_its_trained_weights(whole):
    folder, runner, seen = whole
    content = _content(folder)
    assert content['state_dict'].keys() == seen[0].keys() and len(seen) == 18
    for name, value in content['state_dict'].items():
        average = seen[0][name].double()
        for step, weights in enumerate(seen[1:], 1):
            momentum = MOMENTUM + (1 - MOMENTUM) * math.exp(-(1 + step) / (0.5 / MOMENTUM))
            average = (1 - momentum) * average + momentum * weights[name].double()
        torch.testing.assert_close(value.double(), average, rtol=1e-5, atol=1e-6)
        assert torch.equal(content['ema_state_dict'][f'module.{name}'], seen[-1][name])
    hook = next(hook for hook in runner.hooks if isinstance(hook, AveragedWeightsHook))
    # Neither a second teacher nor averaged adapters.
    assert hook.ema_model.module.teacher is runner.model.teacher
    assert not any('links' in name for name in hook.ema_model.avg_parameters)


def test_tests_use_the_average(whole, options, tmp_path):
    folder, _, _ = whole
    path = folder / 'iter_18.pth'
    averaged = run_test(str(CONFIG), path, options, work_dir=str(tmp_path))
    plain = run_test(str(PLUGIN / 'plugin_config.py'), path, ['+model.width=4', 'custom_hooks=[]'], work_dir=tmp_path)
    assert averaged == plain and plain['centre_error'] > 0
    content = _content(folder)
    content['state_dict'] = {name: content['ema_state_dict'][f'module.{name}'] for name in content['state_dict']}
    torch.save(content, tmp_path / 'trained.pth')
    assert run_test(str(CONFIG), tmp_path / 'trained.pth', options, work_dir=str(tmp_path)) != averaged


def test_a_resumed_training_ends_as_the_whole_one(whole, options, tmp_path):
    folder, _, _ = whole
    settings = [*options, 'train_cfg.max_epochs=3']
    train(str(CONFIG), settings, work_dir=tmp_path, resume=str(folder / 'iter_6.pth'))
    one, two = _content(folder), _content(tmp_path)
    for part in ('state_dict', 'ema_state_dict', 'training_state'):
        assert one[part].keys() == two[part].keys()
        assert all(torch.equal(value, two[part][name]) for name, value in one[part].items()), part


def test_a_training_that_would_mix_average_and_trained_weights_is_refused(whole, options, tmp_path):
    folder, _, _ = whole
    path = folder / 'iter_12.pth'
    settings = [*options, 'train_cfg.max_epochs=3']
    with pytest.raises(InputError, match='averaged weights, and the config has no EMAHook.*load_from'):
        train(str(CONFIG), [*settings, 'custom_hooks=[]'], work_dir=tmp_path, resume=str(path))
    content = _content(folder, 12)
    content['ema_state_dict']['module.net.0.weight'] = torch.zeros(5, 2)
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(InputError, match='of another shape'):
        train(str(CONFIG), settings, work_dir=tmp_path / 'a', resume=str(tmp_path / 'other.pth'))


def test_an_average_that_is_not_finite_is_not_saved(options, tmp_path):
    runner = build_runner(load_config(CONFIG, parse_options([*options, 'train_cfg.max_epochs=1'])), tmp_path)

    class Break(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, *_, **__):
            if batch_idx == 2:
                hook = next(hook for hook in runner.hooks if isinstance(hook, AveragedWeightsHook))
                hook.ema_model.module.student.net[0].weight.data[0, 0] = float('nan')

    runner.register_hook(Break())
    with pytest.raises(InputError, match=r'net.0.weight of the averaged model holds NaN'):
        runner.train()
    assert not list(tmp_path.glob('*.pth'))


def test_the_plain_student_takes_the_checkpoint(whole):
    folder, runner, _ = whole
    student = type(runner.model.student)(width=4)
    load_weights(student, folder / 'iter_18.pth')
