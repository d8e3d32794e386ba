"""What check_env says of this machine and of broken ones, and that a config survives being printed."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import mmcv
import pytest

from perception3d.apis import environment
from perception3d.apis.config import load_config
from perception3d.apis.environment import PARTS
from perception3d.registry import MODELS
from tools import check_env, print_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'


def rows(printed: str) -> dict[str, str]:
    """The lines of the table by the distribution that they begin with; what fixes it belongs to the line before."""
    joined = re.sub(r'\n +fix[^:]*: ', ' -> ', printed)
    return {line.split()[0]: ' '.join(line.split()[1:]) for line in joined.splitlines()}


def test_this_machine_has_what_is_needed(capsys: pytest.CaptureFixture):
    assert check_env.main([]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        f'perception3d {importlib.metadata.version("perception3d")}, Python {sys.version_info[0]}'
    )
    found = rows(printed)
    for part in PARTS:
        if part.needed:
            assert found[part.distribution] == f'{importlib.metadata.version(part.distribution)} ok'
    assert printed.splitlines()[-1].startswith('device: ')
    assert check_env.main(['--quiet']) == 0
    assert capsys.readouterr().out == ''


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes distributions absent, of another version, or not to be imported; everything else imports at once."""
    versions: dict[str, str | None] = {}
    errors: dict[str, Exception] = {}
    version = importlib.metadata.version

    def version_here(name: str) -> str:
        if versions.get(name, '') is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions.get(name) or version(name)

    def import_here(name: str) -> None:
        if name in errors:
            raise errors[name]

    def change(new_versions: dict[str, str | None], new_errors: dict[str, Exception] | None = None) -> None:
        versions.update(new_versions)
        errors.update(new_errors or {})
        monkeypatch.setattr(importlib.metadata, 'version', version_here)
        monkeypatch.setattr(environment.importlib, 'import_module', import_here)

    return change


def test_a_missing_part_is_named_with_the_command_that_brings_it(broken, capsys: pytest.CaptureFixture):
    broken({'numba': None, 'numpy': '2.1.0'})
    assert check_env.main([]) == 1
    found = rows(capsys.readouterr().out)
    assert found['numba'] == '- MISSING: not installed -> pip install numba'
    assert found['numpy'] == '2.1.0 MISSING: version 2.1.0 does not work here -> pip install "numpy<2"'
    assert found['torch'].endswith(' ok') and 'device:' not in found
    assert check_env.main(['--quiet']) == 1
    assert rows(capsys.readouterr().out).keys() == {'numba', 'numpy'}


def test_an_optional_part_may_be_missing(broken, capsys: pytest.CaptureFixture):
    broken({'open3d': None})
    assert check_env.main([]) == 0
    assert rows(capsys.readouterr().out)['open3d'] == '- optional, missing: not installed -> pip install open3d'
    assert check_env.main(['--quiet']) == 0
    assert capsys.readouterr().out == ''


def test_the_opencv_with_windows_over_the_one_without_is_undone(broken, capsys: pytest.CaptureFixture):
    error = ImportError('libGL.so.1: cannot open shared object file: No such file or directory')
    # All that import cv2 fail with it, and one command fixes them all.
    broken({}, {'cv2': error, 'nuscenes': error})
    assert check_env.main(['--quiet']) == 1
    found = rows(capsys.readouterr().out)
    assert found.keys() == {'opencv-python-headless', 'nuscenes-devkit'}
    for line in found.values():
        assert 'MISSING: ImportError: libGL.so.1: cannot open' in line
        assert line.endswith('-> pip install --force-reinstall --no-deps opencv-python-headless==4.11.0.86')


def test_what_a_part_lacks_itself_is_named(broken, capsys: pytest.CaptureFixture):
    broken(
        {}, {'mmcv.ops': ModuleNotFoundError("No module named 'psutil'"), 'scipy': ImportError('libgomp.so.1: gone')}
    )
    assert check_env.main(['--quiet']) == 1
    found = rows(capsys.readouterr().out)
    assert found['onedl-mmcv'].endswith('-> pip install psutil')
    assert found['scipy'].endswith('-> apt-get install -y libgomp1')


def test_mmcv_is_fixed_by_the_wheel_without_ops(broken, capsys: pytest.CaptureFixture):
    broken({'onedl-mmcv': None})
    assert check_env.main(['--quiet']) == 1
    wheel = 'pip install --no-deps --no-cache-dir onedl-mmcv==2.3.6'
    assert rows(capsys.readouterr().out)['onedl-mmcv'] == f'- MISSING: not installed -> {wheel}'
    broken({'onedl-mmcv': '2.3.6'}, {'mmcv.ops': ImportError('_ext.so: undefined symbol: _ZN3c10')})
    assert check_env.main(['--quiet']) == 1
    again = wheel.replace('install', 'install --force-reinstall')
    assert rows(capsys.readouterr().out)['onedl-mmcv'].endswith(f'undefined symbol: _ZN3c10 -> {again}')


@pytest.mark.parametrize(
    'facts, wanted',
    [
        (
            {'is_replacement': True},
            r'not compiled; this package has those .* on a CPU: 2D and rotated NMS.* -> make setup MMCV_OPS=1',
        ),
        (
            {'get_compiling_cuda_version': lambda: 'not available'},
            r'compiled for the CPU only, GCC 12.2 -> make setup MMCV_OPS=1 \(needs nvcc\)',
        ),
        ({'get_compiling_cuda_version': lambda: '12.4'}, r'compiled with CUDA 12.4, GCC 12.2'),
    ],
    ids=['none', 'cpu', 'cuda'],
)
def test_the_state_of_the_ops_is_reported(facts, wanted, broken, monkeypatch, capsys: pytest.CaptureFixture):
    ext = types.ModuleType('mmcv._ext')
    vars(ext).update({'get_compiler_version': lambda: 'GCC 12.2', **facts})
    monkeypatch.setattr(mmcv, '_ext', ext)
    broken({})
    assert check_env.main([]) == 0
    assert re.fullmatch(f'of mmcv: {wanted}', rows(capsys.readouterr().out)['ops'])


def test_commands_that_fix_a_part_bring_the_versions_of_the_set_up():
    files = [ROOT / 'Makefile', *sorted((ROOT / 'requirements').glob('*.txt'))]
    set_up = '\n'.join(file.read_text() for file in files)
    pinned = [pin for part in PARTS for pin in re.findall(r'[\w-]+==[\w.]+', part.fix)]
    assert len(pinned) > 6
    assert [pin for pin in pinned if pin not in set_up] == []


def test_opencv_is_the_one_without_windows():
    assert re.search(r'GUI: +NONE', cv2.getBuildInformation())


@pytest.mark.parametrize(
    'name', ['fast_bev/fast_bev_tiny_96x352_9e_sim.py', 'point_pillars/point_pillars_tiny_c4_10e_kitti_sim.py']
)
def test_a_printed_config_is_that_config(name: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    options = ['train_cfg.max_epochs=3', 'data_root=elsewhere']
    assert print_config.main([str(CONFIGS / name), '--cfg-options', *options]) == 0
    text = capsys.readouterr().out
    (tmp_path / 'printed.py').write_text(text)
    again, original = load_config(tmp_path / 'printed.py'), load_config(CONFIGS / name)
    assert (
        again.train_cfg.max_epochs == 3 and again.train_dataloader.num_workers == original.train_dataloader.num_workers
    )
    assert again.data_root == 'elsewhere' != original.data_root
    assert again.pretty_text.strip() == text.strip()
    shapes, wanted = (
        {key: value.shape for key, value in MODELS.build(config.model).state_dict().items()}
        for config in (again, original)
    )
    assert shapes == wanted
