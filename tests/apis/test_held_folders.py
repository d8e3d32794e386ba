"""Two runs that would write into one folder: the second one hears who is at work there, and changes nothing."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from kitti_tree import KittiTree

from perception3d.apis import training
from perception3d.apis.cli import run_tool
from perception3d.checks import InputError
from perception3d.locks import folder_lock
from tools import create_data, experiment, simulate, train

PLUGIN = Path(__file__).resolve().parents[1] / 'plugin'


def hold(folder, said):
    with folder_lock(folder):
        said.send(os.getpid())
        time.sleep(600)


@pytest.fixture(scope='module')
def held(tmp_path_factory):
    """A folder with a small KITTI tree that another process holds, and that process."""
    root = KittiTree(tmp_path_factory.mktemp('kitti')).write({'train': ['000000'], 'val': ['000004']})
    heard, said = multiprocessing.Pipe()
    holder = multiprocessing.get_context('fork').Process(target=hold, args=(root, said))
    holder.start()
    yield root, heard.recv()
    holder.kill()
    holder.join()


@pytest.mark.parametrize(
    ('tool', 'arguments'),
    [
        (create_data, ['kitti', '--root', '{}']),
        (train, [PLUGIN / 'plugin_config.py', '--work-dir', '{}']),
        (experiment, [PLUGIN / 'tiny_experiment.py', '--out', '{}']),
    ],
)
def test_the_second_run_is_refused(held, capsys, tool, arguments):
    root, pid = held
    before = sorted(path for path in root.rglob('*'))
    with pytest.raises(SystemExit) as ended:
        run_tool(lambda _: tool.main([str(root if argument == '{}' else argument) for argument in arguments]))
    written = capsys.readouterr().err
    assert ended.value.code == 2 and written.count('\n') == 1, written
    assert f'{root} is ' in written and f' by process {pid} on ' in written
    assert sorted(path for path in root.rglob('*')) == before


def test_a_second_simulate_is_refused(tmp_path, capsys):
    heard, said = multiprocessing.Pipe()
    holder = multiprocessing.get_context('fork').Process(target=hold, args=(tmp_path / 'out', said))
    holder.start()
    pid = heard.recv()
    with pytest.raises(SystemExit) as ended:
        run_tool(
            lambda _: simulate.main(['kitti', '--out', str(tmp_path / 'out'), '--profile', 'tiny', '--scenes', '1'])
        )
    holder.kill()
    holder.join()
    assert ended.value.code == 2 and f'is being written by process {pid}' in capsys.readouterr().err


def test_one_of_several_processes_that_train_together_holds_the_folder(held, monkeypatch):
    class Built(Exception):
        pass

    def build(*_, **__):
        raise Built

    root, _ = held
    monkeypatch.setattr(training, 'build_runner', build)
    for rank, error, words in (('1', Built, None), ('0', InputError, 'is being trained in by process')):
        monkeypatch.setenv('RANK', rank)
        with pytest.raises(error, match=words):
            training.train(str(PLUGIN / 'plugin_config.py'), work_dir=root, launcher='pytorch')
