"""The set-up: which Python it takes, which torch and which mmcv. Nothing is installed here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def _dry_make(*arguments: str, venv: Path) -> str:
    command = ['make', '-n', '-C', str(ROOT), 'setup', f'VENV={venv}', *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith('MAKE')}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    return run.stdout


def _set_up(venv: Path, mmcv: str) -> Path:
    """Leaves the marks of a finished set-up."""
    venv.mkdir()
    for mark, text in (('.torch', 'torch==2.13.0'), ('.mmcv', mmcv), ('.packages', ''), ('.ready', '')):
        (venv / mark).write_text(f'{text}\n')
    return venv


def test_the_default_compiles_nothing(tmp_path):
    text = _dry_make(venv=tmp_path / 'new')
    line = next(line for line in text.splitlines() if 'onedl-mmcv' in line)
    assert 'MMCV_WITH_OPS=0' in line and '--no-deps' in line and '--no-build-isolation' not in line
    assert 'g++' not in text and 'Python.h' not in text


def test_ops_are_compiled_when_asked_for(tmp_path):
    text = _dry_make('MMCV_OPS=1', venv=tmp_path / 'new')
    line = next(line for line in text.splitlines() if 'MMCV_WITH_OPS' in line)
    assert 'MMCV_WITH_OPS=1' in line and '--no-build-isolation' in line
    assert 'g++' in text and 'Python.h' in text


@pytest.mark.parametrize('ops', ['0', '1'])
def test_no_wheel_of_pips_cache_is_taken(tmp_path, ops):
    line = next(x for x in _dry_make(f'MMCV_OPS={ops}', venv=tmp_path / 'new').splitlines() if 'MMCV_WITH_OPS' in x)
    assert '--no-cache-dir' in line and '--force-reinstall' in line


@pytest.mark.parametrize(('now', 'asked', 'expected'), [('0', '1', '1'), ('1', '0', '0'), ('0', '', ''), ('1', '', '')])
def test_mmcv_is_installed_again_only_when_the_other_kind_is_asked_for(tmp_path, now, asked, expected):
    venv = _set_up(tmp_path / 'venv', now)
    text = _dry_make(*([f'MMCV_OPS={asked}'] if asked else []), venv=venv)
    assert re.findall(r'MMCV_WITH_OPS=(\d)', text) == ([expected] if expected else [])


def test_cpu_takes_the_cpu_build_from_the_index_of_torch(tmp_path):
    text = _dry_make('CPU=1', venv=tmp_path / 'new')
    assert 'install -q torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu\n' in text
    # Everything else comes from the usual index.
    assert len([line for line in text.splitlines() if 'pip' in line and '--index-url' in line]) == 1
    assert '--index-url' not in _dry_make('CPU=0', venv=tmp_path / 'new')


def test_an_environment_from_before_the_choice_keeps_its_ops(tmp_path):
    venv = _set_up(tmp_path / 'venv', '')
    (venv / '.mmcv').write_text('')
    assert 'MMCV_WITH_OPS=0' not in _dry_make(venv=venv)


def test_a_choice_that_is_neither_0_nor_1_is_refused(tmp_path):
    command = ['make', '-n', '-C', str(ROOT), 'setup', f'VENV={tmp_path}', 'MMCV_OPS=yes']
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode != 0 and 'MMCV_OPS=yes: give 0 or 1' in run.stderr


def test_another_python_is_refused_in_an_environment_that_has_one(tmp_path):
    venv = _set_up(tmp_path / 'venv', '0')
    (venv / 'bin').mkdir()
    (venv / 'bin' / 'python').symlink_to(sys.executable)
    other = tmp_path / 'other'
    other.write_text('#!/bin/sh\necho "(3, 9)"\n')
    other.chmod(0o755)
    command = ['make', '-C', str(ROOT), 'check-venv', f'VENV={venv}']
    run = subprocess.run([*command, f'PYTHON={other}'], capture_output=True, text=True)
    assert run.returncode != 0 and 'another Python' in run.stdout
    assert subprocess.run([*command, f'PYTHON={sys.executable}']).returncode == 0


def test_another_torch_is_refused_in_an_environment_that_has_one(tmp_path):
    venv = _set_up(tmp_path / 'venv', '0')
    run = subprocess.run(
        ['make', '-C', str(ROOT), 'check-venv', f'VENV={venv}', 'TORCH=torch==9.9'], capture_output=True, text=True
    )
    assert run.returncode != 0 and 'make clean first' in run.stdout


@pytest.fixture
def interpreters(tmp_path):
    """A folder for fake interpreters: `add(name, version, has_wheel)`; version None is a shim that fails."""
    folder = tmp_path / 'bin'
    folder.mkdir()

    def add(name: str, version: str | None, has_wheel: bool = False) -> None:
        if version is None:
            text = 'exit 127'
        else:
            text = f'case "$1" in -c) echo {version};; -m) exit {int(not has_wheel)};; esac'
        (folder / name).write_text(f'#!/bin/sh\n{text}\n')
        (folder / name).chmod(0o755)

    add.folder = folder
    return add


def _choose(folder: Path, *given: str) -> tuple[int, str, str]:
    command = ['/bin/sh', str(ROOT / 'requirements' / 'choose_python.sh'), 'torch==2.13.0', *given]
    run = subprocess.run(command, capture_output=True, text=True, env={'PATH': str(folder)})
    return run.returncode, run.stdout.strip(), run.stderr.strip()


def test_the_python_that_has_the_wheel_of_torch_comes_first(interpreters):
    interpreters('python3.12', '3.12')
    interpreters('python3.11', '3.11', has_wheel=True)
    assert _choose(interpreters.folder) == (
        0, 'python3.11', "python3.11: Python 3.11, since pip's wheel folder holds torch==2.13.0 for it",
    )  # fmt: skip


def test_without_a_wheel_the_newest_that_works_is_taken(interpreters):
    interpreters('python3.12', None)
    interpreters('python3.10', '3.10')
    interpreters('python3', '3.11')
    code, chosen, why = _choose(interpreters.folder)
    assert (code, chosen) == (0, 'python3') and 'Python 3.11, the newest' in why


def test_a_python_that_is_too_new_is_not_taken(interpreters):
    interpreters('python3', '3.13')
    code, chosen, why = _choose(interpreters.folder)
    assert (code, chosen) == (2, '') and 'no Python 3.10, 3.11 or 3.12' in why


def test_a_given_python_is_taken_or_refused(interpreters):
    interpreters('python3.11', '3.11', has_wheel=True)
    interpreters('python3.10', '3.10')
    interpreters('python3.13', '3.13')
    interpreters('shim', None)
    assert _choose(interpreters.folder, 'python3.10')[:2] == (0, 'python3.10')
    assert 'python3.13 is Python 3.13' in _choose(interpreters.folder, 'python3.13')[2]
    assert 'shim does not run' in _choose(interpreters.folder, 'shim')[2]
    assert [_choose(interpreters.folder, name)[0] for name in ('python3.13', 'shim')] == [2, 2]


def test_pins_have_one_version_for_every_python():
    for file in ('build.txt', 'run.txt', 'dev.txt'):
        lines = [line.strip() for line in (ROOT / 'requirements' / file).read_text().splitlines()]
        pins = [Requirement(line) for line in lines if line and not line.startswith('#')]
        for version in ('3.10', '3.11', '3.12'):
            valid = [pin.name for pin in pins if not pin.marker or pin.marker.evaluate({'python_version': version})]
            assert sorted(valid) == sorted({pin.name for pin in pins}), (file, version)


def test_this_python_has_the_pinned_onnxruntime():
    import onnxruntime

    pinned = '1.23.2' if sys.version_info < (3, 11) else '1.31.1'
    assert onnxruntime.__version__ == pinned
