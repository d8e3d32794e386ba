"""The command `perception3d VERB ..`: its verbs, its help, and how it writes commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from perception3d import __version__, cli
from perception3d.apis.cli import as_typed
from perception3d.checks import InputError
from perception3d.cli import train

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def as_command(monkeypatch):
    """As the console script starts it."""
    monkeypatch.setattr(sys, 'argv', ['perception3d train'])


def test_every_script_is_a_verb_and_every_verb_a_script():
    scripts = {path.stem for path in (ROOT / 'tools').glob('*.py')} - {'export_onnx'}
    assert cli.verbs().keys() == scripts
    assert cli.verbs()['train'] == 'Train the model of a config.'


def test_help_lists_the_verbs_and_imports_nothing_heavy():
    code = (
        "import sys; from perception3d.cli import main; main(['--help']); "
        "print([name for name in ('torch', 'numpy', 'mmengine', 'perception3d.apis.config') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    lines = shown.splitlines()
    assert lines[0] == 'usage: perception3d VERB ..' and lines[-1] == '[]'
    assert all(any(line.startswith(f'  {verb} ') and line.endswith(text) for line in lines)
               for verb, text in cli.verbs().items())  # fmt: skip


def test_a_misspelt_verb_names_the_right_one():
    with pytest.raises(InputError, match="unknown command 'trian': did you mean 'train'"):
        cli.main(['trian', 'config.py'])
    with pytest.raises(InputError, match='unknown command .*benchmark, browse_dataset'):
        cli.main(['q'])


def test_without_a_verb_the_usage_is_shown(capsys):
    assert cli.main([]) == 2 and 'usage: perception3d VERB' in capsys.readouterr().out
    assert cli.main(['--version']) == 0 and capsys.readouterr().out == f'perception3d {__version__}\n'


def test_a_verb_takes_the_words_after_it(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['perception3d'])
    taken = []
    monkeypatch.setattr(train, 'main', lambda words: taken.append(words) or 3)
    assert cli.main(['train', 'a.py', '--amp']) == 3 and taken == [['a.py', '--amp']]
    with pytest.raises(SystemExit) as ended:
        cli.main(['create-data', '--help'])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and shown.startswith('usage: perception3d create_data ')
    assert 'example:\n  perception3d create_data nuscenes' in shown and 'tools/' not in shown


def test_a_script_writes_commands_as_scripts():
    text = 'run: python tools/create_data.py kitti --root data'
    assert as_typed(text) == text


@pytest.mark.parametrize(
    'text, typed',
    [
        ('run: python tools/create_data.py kitti --root d', 'run: perception3d create_data kitti --root d'),
        ('write it with tools/infer.py', 'write it with perception3d infer'),
        (
            'torchrun --nproc_per_node=2 tools/train.py CONFIG --launcher pytorch',
            'torchrun --nproc_per_node=2 -m perception3d train CONFIG --launcher pytorch',
        ),
        ('no file /data/tools/train.pyc', 'no file /data/tools/train.pyc'),
    ],
)
def test_the_command_writes_commands_as_it_is_typed(as_command, text, typed):
    assert as_typed(text) == typed


def test_the_module_runs_the_command_and_sees_no_module_of_the_current_folder(tmp_path):
    (tmp_path / 'argparse.py').write_text('raise SystemExit("the file was imported")')
    command = [sys.executable, '-m', 'perception3d']
    ran = subprocess.run([*command, 'simulate', '--help'], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0 and ran.stdout.startswith('usage: perception3d simulate '), ran.stderr
    ran = subprocess.run([*command, 'trian'], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 2 and ran.stderr == "error: unknown command 'trian': did you mean 'train'?\n"
