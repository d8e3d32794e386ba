"""A plugin outside the package trains, tests, survives SIGKILL, and steps alike in one and two processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'tests' / 'plugin' / 'plugin_config.py'


def _tool(tool, *args, expect=0, **environment):
    command = [sys.executable, str(ROOT / 'tools' / tool), *map(str, args)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', **environment}
    out = subprocess.run(command, capture_output=True, text=True, env=environment, cwd='/', timeout=300)
    assert out.returncode == expect, out.stdout[-2000:] + out.stderr[-2000:]
    return out


def _weights(folder):
    content = torch.load(folder / 'iter_24.pth', weights_only=False)
    return {**content['state_dict'], **{f'ema.{k}': v for k, v in content['ema_state_dict'].items()}}


@pytest.fixture(scope='module')
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    _tool('train.py', CONFIG, '--work-dir', folder)
    return folder


def test_a_plugin_is_trained_and_tested_through_its_config_alone(whole_run, tmp_path):
    _tool('test.py', CONFIG, whole_run / 'iter_24.pth', '--work-dir', tmp_path, '--out', tmp_path / 'm.json')
    error = json.loads((tmp_path / 'm.json').read_text())['centre_error']
    assert 0 < error < 1.5  # an untrained net is off by 2.4 on average


def test_a_run_killed_in_mid_epoch_and_resumed_ends_with_the_same_weights(whole_run, tmp_path):
    # 24 samples are 6 iterations an epoch; draw 61 belongs to iteration 16, two after the checkpoint of iteration 14.
    kill = '+train_dataloader.dataset.kill_at=61'
    _tool('train.py', CONFIG, '--work-dir', tmp_path, '--cfg-options', kill, expect=-signal.SIGKILL)
    assert (tmp_path / 'last_checkpoint').read_text() == 'iter_14.pth'
    # Another number of workers must not matter either.
    workers = ['train_dataloader.num_workers=2']
    out = _tool('train.py', CONFIG, '--work-dir', tmp_path, '--resume', '--cfg-options', *workers)
    assert 'iter_14.pth' in out.stdout
    resumed, whole = _weights(tmp_path), _weights(whole_run)
    assert resumed.keys() == whole.keys()
    for name in whole:
        assert torch.equal(resumed[name], whole[name]), name


def test_resume_without_a_checkpoint_says_so_and_ends(tmp_path):
    out = _tool('train.py', CONFIG, '--work-dir', tmp_path, '--resume', expect=2)
    assert out.stderr.startswith(f'error: --resume: {tmp_path} holds no complete checkpoint')
    out = _tool('train.py', CONFIG, '--work-dir', tmp_path, '--resume', '--dry-run')
    assert 'losses: ' in out.stdout and 'parameters, M' in out.stdout
    assert not list(tmp_path.glob('*.pth'))
    _tool('train.py', CONFIG, '--work-dir', tmp_path, '--resume', tmp_path / 'none.pth', expect=2)


@pytest.mark.parametrize(
    'args, message',
    [
        (['none.py'], 'none.py does not exist'),
        ([CONFIG, '--cfg-options', 'model.widht=3'], "no key 'model.widht': did you mean model"),
        ([CONFIG, '--cfg-options', '+model.heads=3'], 'heads'),
        ([CONFIG, '--launcher', 'pytorch'], 'torchrun'),
    ],
)
def test_mistakes_of_the_user_are_one_line_and_exit_code_2(tmp_path, args, message):
    out = _tool('train.py', *args, '--work-dir', tmp_path, expect=2)
    last = out.stderr.strip().splitlines()[-1]
    assert last.startswith('error: ') and message in last
    assert 'Traceback' not in out.stderr


def test_a_checkpoint_of_another_model_is_refused(whole_run, tmp_path):
    options = ['--cfg-options', '+model.width=8']
    out = _tool('test.py', CONFIG, whole_run / 'iter_24.pth', '--work-dir', tmp_path, *options, expect=2)
    assert 'is of another model or variant' in out.stderr and 'net.0.weight (16, 2) instead of (8, 2)' in out.stderr


def test_two_runs_in_one_process_log_to_their_own_folders(tmp_path, monkeypatch):
    from mmengine.runner import runner

    from perception3d.apis.training import train

    # Also where both start in the same second, which is what mmengine names them by.
    monkeypatch.setattr(
        runner, 'time', SimpleNamespace(time=lambda: 1e9, strftime=time.strftime, localtime=time.localtime)
    )
    for name in 'ab':
        train(CONFIG, ['train_cfg.max_epochs=1'], work_dir=str(tmp_path / name))
        assert len(list((tmp_path / name).rglob('scalars.json'))) == 1
        (log,) = (tmp_path / name).rglob('*.log')
        assert log.read_text().count('Epoch(train)') == 1


def test_mixed_precision_trains_on_the_cpu(tmp_path):
    _tool('train.py', CONFIG, '--work-dir', tmp_path, '--amp', '--cfg-options', 'train_cfg.max_epochs=1')
    assert torch.load(tmp_path / 'iter_6.pth', weights_only=False)['optimizer']['loss_scaler'] == {}
    _tool('train.py', CONFIG, '--work-dir', tmp_path, '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert (tmp_path / 'iter_12.pth').is_file()


def test_tensorboard_is_one_option(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from perception3d.apis.training import train

    (option,) = re.findall(r'TensorBoard: `--cfg-options "(.*?)"`', (ROOT / 'docs' / 'training.md').read_text())
    log = ['+default_hooks.logger.type=LoggerHook', '+default_hooks.logger.interval=1']
    options = ['train_cfg.max_epochs=1', '+visualizer.type=Visualizer', f'+{option}', *log]
    train(CONFIG, options, work_dir=str(tmp_path))
    (events,) = tmp_path.rglob('events.out.tfevents.*')
    assert len(list(tmp_path.rglob('scalars.json'))) == 1
    read = EventAccumulator(str(events))
    read.Reload()
    assert len(read.Scalars('loss')) == len(read.Scalars('lr')) == 6


LEAF = """
from mmengine.config import read_base
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend

with read_base():
    from .configs.fast_bev.fast_bev_tiny_96x352_9e_sim import *

"""


def test_tensorboard_is_one_line_of_a_config(tmp_path):
    from perception3d.apis.config import load_config
    from perception3d.checks import InputError

    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    runtime = (ROOT / 'configs' / '_base_' / 'runtime.py').read_text()
    (line,) = re.findall(r'^# (visualizer\..*)$', runtime, re.MULTILINE)
    (tmp_path / 'leaf.py').write_text(LEAF + line)
    backends = [backend.type.__name__ for backend in load_config(tmp_path / 'leaf.py').visualizer.vis_backends]
    assert backends == ['LocalVisBackend', 'TensorboardVisBackend']
    # The line that other code bases have would do nothing here.
    (tmp_path / 'leaf.py').write_text(LEAF + line.removeprefix('visualizer.'))
    with pytest.raises(InputError, match='leaf.py:8 sets vis_backends, which no visualizer takes'):
        load_config(tmp_path / 'leaf.py')
