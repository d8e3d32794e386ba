"""The wheel: built, installed into a folder, and used from another one, where the checkout cannot be imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]

# Python runs it at its start: what `make setup` installed gives the checkout away.
NO_CHECKOUT = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, '__name__', '') != '_EditableFinder']
sys.path[:] = [path for path in sys.path if path != {checkout!r}]
"""
# In one process, since most of the time of a command is that of its imports, and without a step that compiles kernels:
# a new folder has none in numba's cache. docs/results/setup.md has a training with the installed wheel.
USE = """
import sys
import perception3d
from perception3d.apis.config_names import find_config, repository
from perception3d.apis import demo_checkpoint
from perception3d.cli import main

config = 'fast_bev_tiny_96x352_9e_sim'
print('places', perception3d.__file__, find_config(config), demo_checkpoint(), repository(), sep='|')
main(['print_config', config, '--key', 'train_dataloader.dataset.data_root'])
print('model', type(perception3d.Inferencer(config, 'demo', 'cpu').model).__name__)
main(['experiment', 'bev_distillation', '--dry-run', '--out', 'exp', '--seeds', '0'])
"""


def _run(command: list[str], **options: object) -> str:
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """The folder that the wheel is installed in."""
    folder = tmp_path_factory.mktemp('wheel')
    # setuptools writes next to the sources.
    source = folder / 'source'
    for name in ('perception3d', 'configs'):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('pyproject.toml', 'setup.py', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source / name)
    build = 'from setuptools import build_meta; print(build_meta.build_wheel("dist"))'
    wheel = source / 'dist' / _run([sys.executable, '-c', build], cwd=source).splitlines()[-1]
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', 'install', '-q', '--no-index', '--no-deps']
    _run([*pip, '--no-compile', '--target', folder / 'site', wheel])
    (folder / 'start').mkdir()
    (folder / 'start' / 'sitecustomize.py').write_text(NO_CHECKOUT.format(checkout=str(ROOT)))
    return folder / 'site'


@pytest.fixture
def environment(installed):
    return {**os.environ, 'PYTHONPATH': f'{installed.parent / "start"}{os.pathsep}{installed}'}


def test_the_wheel_has_the_package_alone(installed):
    names = {path.name for path in installed.iterdir()}
    assert {name for name in names if not name.endswith('.dist-info')} == {'bin', 'perception3d'}
    shipped = {str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('*.py')}
    assert {str(path.relative_to(installed / 'perception3d')) for path in installed.rglob('configs/**/*.py')} == shipped
    assert (installed / 'perception3d' / 'py.typed').is_file() and not list(installed.rglob('test_*.py'))


def test_the_metadata_name_what_requirements_pin(installed):
    text = next(installed.glob('*.dist-info')).joinpath('METADATA').read_text()
    fields = HeaderParser().parsestr(text)
    assert (fields['Name'], fields['License-Expression'], fields['Requires-Python']) == (
        'perception3d', 'Apache-2.0', '>=3.10',
    )  # fmt: skip
    needed = [Requirement(line) for line in fields.get_all('Requires-Dist')]
    pinned = {}
    for name in ('run.txt', 'dev.txt'):
        for line in (ROOT / 'requirements' / name).read_text().splitlines():
            if line and not line.startswith('#'):
                pin = Requirement(line)
                pinned.setdefault(pin.name, []).extend(part.version for part in pin.specifier if part.operator == '==')
    checked = [need for need in needed if pinned.get(need.name)]
    assert len(checked) > 8
    for need in checked:
        assert all(need.specifier.contains(version) for version in pinned[need.name]), need


def test_the_command_works_from_another_folder(installed, environment, tmp_path):
    script = [sys.executable, installed / 'bin' / 'perception3d']
    shown = _run([*script, '--help'], cwd=tmp_path, env=environment)
    assert shown.startswith('usage: perception3d VERB ..') and '  train ' in shown
    shown = _run([sys.executable, '-c', USE], cwd=tmp_path, env=environment)
    places = next(line for line in shown.splitlines() if line.startswith('places|')).split('|')[1:]
    package, config, checkpoint, repository = places
    assert all(Path(path).is_relative_to(installed / 'perception3d') for path in (package, config, checkpoint))
    assert Path(checkpoint).is_file() and repository == 'None'
    assert "data_root = 'data/sim_tiny'" in shown and '\nmodel FastBEV\n' in shown
    assert f'{sys.executable} -m perception3d simulate nuscenes --out {tmp_path}/exp/data' in shown
    assert f'{sys.executable} -m perception3d train {installed}/perception3d/configs/' in shown
