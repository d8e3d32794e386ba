"""Distillation through the tools: exact resume, plain checkpoints, two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from free_port import free_port
from nets import gradients_of_a_share
from torch import multiprocessing

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / 'tests' / 'plugin'
DISTILL = PLUGIN / 'distill_config.py'


def tool(name, *args, expect=0):
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, args)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    out = subprocess.run(command, capture_output=True, text=True, env=environment, cwd='/', timeout=300)
    assert out.returncode == expect, out.stdout[-2000:] + out.stderr[-2000:]
    return out.stdout + out.stderr


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp('teacher')
    tool('train.py', PLUGIN / 'plugin_config.py', '--work-dir', folder)
    return f'model.teacher_checkpoint={folder / "iter_24.pth"}'


@pytest.fixture(scope='module')
def whole(teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    tool('train.py', DISTILL, '--work-dir', folder, '--cfg-options', teacher)
    return folder


def flat(folder):
    content = torch.load(folder / 'iter_24.pth', weights_only=False)
    parts = ('state_dict', 'ema_state_dict', 'training_state')
    return {f'{part}.{name}': value for part in parts for name, value in content[part].items()}


def test_a_distilled_run_killed_and_resumed_ends_as_the_whole_run(teacher, whole, tmp_path):
    # Draw 61 belongs to iteration 16, two after the checkpoint of iteration 14, in the middle of an accumulation.
    kill = '+train_dataloader.dataset.kill_at=61'
    tool('train.py', DISTILL, '--work-dir', tmp_path, '--cfg-options', teacher, kill, expect=-signal.SIGKILL)
    tool('train.py', DISTILL, '--work-dir', tmp_path, '--resume', '--cfg-options', teacher)
    resumed, unbroken = flat(tmp_path), flat(whole)
    assert resumed.keys() == unbroken.keys()
    assert {'training_state.hidden.adapter.weight', 'training_state.hidden.scale'} <= resumed.keys()
    for name, value in unbroken.items():
        assert torch.equal(resumed[name], value), name


def test_the_checkpoint_is_one_of_the_plain_student(whole, tmp_path):
    checkpoint = whole / 'iter_24.pth'
    for config, options in ((PLUGIN / 'plugin_config.py', ['+model.width=4']), (DISTILL, ['+model.freeze=[]'])):
        tool(
            'test.py',
            config,
            checkpoint,
            '--work-dir',
            tmp_path,
            '--out',
            tmp_path / 'm.json',
            '--cfg-options',
            *options,
        )
        (tmp_path / 'm.json').rename(tmp_path / f'{config.stem}.json')
    plain, distilled = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('plugin_config', DISTILL.stem))
    assert plain == distilled and plain['centre_error'] < 1.5


def test_the_log_has_links_and_their_scales(whole):
    lines = [json.loads(line) for line in next(whole.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    last = lines[-1]
    # Of iteration 23, the last in which the link was active: in every third, with three times the weight.
    assert last['step'] == 24 and last['distill.answer.scale'] == 3.0 and last['distill.hidden.value'] > 0
    assert last['distill.answer.loss'] > 0 and last['loss'] > last['distill.answer.loss']
    assert last['distill.hidden.scale'] > 0


def test_a_teacher_of_another_width_is_refused_before_training(teacher, tmp_path):
    options = [teacher, 'model.teacher.width=8']
    text = tool('train.py', DISTILL, '--work-dir', tmp_path, '--cfg-options', *options, expect=2)
    assert 'is of another model or variant' in text and 'Traceback' not in text


def test_two_processes_have_the_gradients_of_one(tmp_path):
    gradients_of_a_share(0, 1, '', str(tmp_path / 'one.pt'))
    multiprocessing.spawn(gradients_of_a_share, (2, str(free_port()), str(tmp_path / 'two.pt')), nprocs=2)
    one, two = torch.load(tmp_path / 'one.pt'), torch.load(tmp_path / 'two.pt')
    assert (
        one.keys() == two.keys()
        and {'links.late.adapter.conv.weight', 'links.seldom.adapter.conv.weight'} <= one.keys()
    )
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_two_processes_distil_in_bfloat16_with_inherited_weights(teacher, tmp_path):
    run = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={free_port()}']
    command = [*run, ROOT / 'tools' / 'train.py', DISTILL, '--work-dir', tmp_path, '--launcher', 'pytorch', '--amp']
    options = [teacher, '+model.inherit=True', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=2']
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    out = subprocess.run(
        [*map(str, command), '--cfg-options', *options], capture_output=True, text=True, env=environment, cwd='/'
    )
    assert out.returncode == 0, out.stderr[-2000:]
    # Of 4 * 3 + 2 * 5 parameters only the bias of the answer has the shape of the teacher's.
    assert 'inherited: 1 tensors copied' in out.stdout + out.stderr
    content = torch.load(tmp_path / 'iter_6.pth', weights_only=False)
    assert all(value.isfinite().all() for value in content['state_dict'].values())
    assert float(content['training_state']['hidden.seen']) == 2  # the link begins in iteration 4 of 6
