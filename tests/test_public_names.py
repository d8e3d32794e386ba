"""What `import perception3d` and its packages give: the public names, and nothing heavy. The examples run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from collections import defaultdict

import mmdet3d.registry
import pytest
from mmengine.registry import Registry
from source_files import FILES, PACKAGE, module_name

import perception3d
from perception3d import apis
from perception3d.apis.config import load_config
from perception3d.apis.inferencer import Inferencer
from perception3d.apis.runner import build_runner
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.public_names import registered_names

# Those whose names are read from their sources; each format is one too.
PARTS = ['datasets', 'distill', 'engine', 'evaluation', 'models', 'visualization']
PACKAGES = [f'perception3d.{part}' for part in PARTS] + [
    f'perception3d.formats.{path.name}' for path in sorted((PACKAGE / 'formats').iterdir()) if path.is_dir()
]
# Modules, besides `files` of a format, whose functions and classes are all given.
PUBLISHED = {
    'perception3d.datasets': {'box_dataset', 'frame_dataset', 'point_label_dataset'},
    'perception3d.evaluation': {
        'crowd_frames', 'crowd_options', 'crowd_scores', 'lane_f1', 'lane_metric', 'panoptic', 'point_iou',
        'point_metric', 'submissions', 'tracking',
    },
}  # fmt: skip
EXAMPLES = [path for path in FILES if '>>> ' in path.read_text()]


def test_public_names_are_those_of_their_modules():
    expected = (Inferencer, InputError, build_runner, load_config, load_weights)
    names = [name for name in perception3d.__all__ if name != '__version__']
    assert [getattr(perception3d, name) for name in names] == list(expected)
    assert set(perception3d.__all__) <= set(dir(perception3d)) and perception3d.__version__
    with pytest.raises(AttributeError, match='has no attribute'):
        perception3d.Inferencers  # noqa: B018  (reading the name is the test)


def test_the_import_loads_nothing_heavy():
    heavy = ('torch', 'numpy', 'numba', 'mmengine', 'mmcv', 'mmdet', 'mmdet3d', 'cv2', 'perception3d.apis')
    code = f'import sys, perception3d; print([name for name in {heavy} if name in sys.modules])'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == '[]'


@pytest.fixture(scope='module')
def registered():
    """Qualified names of all that modules of this package register, by the package that has to give them."""
    found = defaultdict(set)
    for package in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f'{package}.'):
            importlib.import_module(module.name)
    registries = [value for value in vars(mmdet3d.registry).values() if isinstance(value, Registry)]
    registries = {id(registry): registry for value in registries for registry in (value, value.parent or value)}
    for registry in registries.values():
        for value in registry.module_dict.values():
            package = next((name for name in PACKAGES if value.__module__.startswith(f'{name}.')), None)
            if package or value.__module__.startswith('perception3d.'):
                found[package].add(f'{value.__module__}.{value.__qualname__}')
    return found


@pytest.mark.parametrize('package', PACKAGES)
def test_a_package_gives_what_its_modules_register(package, registered):
    module = importlib.import_module(package)
    asked = [name for name in dir(module) if name not in vars(module)]
    given = {getattr(module, name) for name in asked}
    assert {value.__name__ for value in given} == set(asked)
    names = {f'{value.__module__}.{value.__qualname__}' for value in given}
    assert registered[package] <= names
    # Beyond that, only whole modules.
    others = {name.rpartition('.')[0] for name in names - registered[package]}
    assert all(other.split('.')[-1] in PUBLISHED.get(package, {'files'}) for other in others)


def test_imports_of_the_page_about_extending_work():
    page = (PACKAGE.parent / 'docs' / 'extending.md').read_text()
    lines = re.findall(r'^from perception3d\.(?:\w+|formats\.kitti) import .*$', page, re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        exec(line, {})


def test_nothing_is_registered_outside_of_these_packages(registered):
    assert not registered[None] and sum(map(len, registered.values())) > 100


def test_names_that_do_not_exist_and_modules():
    from perception3d import models
    from perception3d.models import FastBEV, fast_bev
    from perception3d.models.fast_bev import detector

    assert FastBEV is detector.FastBEV and fast_bev.detector is detector
    with pytest.raises(AttributeError, match="'perception3d.models' has no attribute 'FastBev'"):
        models.FastBev  # noqa: B018
    with pytest.raises(ImportError, match='FastBev'):
        exec('from perception3d.models import FastBev', {})


def test_a_name_with_two_homes_is_refused(tmp_path, monkeypatch):
    for name in ('one', 'two'):
        (tmp_path / 'twice').mkdir(exist_ok=True)
        (tmp_path / 'twice' / f'{name}.py').write_text('@MODELS.register_module()\nclass Net:\n    pass\n')
    (tmp_path / 'twice' / '__init__.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'twice', raising=False)
    importlib.import_module('twice')
    _, listed = registered_names('twice')
    with pytest.raises(ValueError, match='Net is defined in twice.one and in twice.two'):
        listed()
    del sys.modules['twice']


def test_apis_give_what_the_commands_call():
    from perception3d.apis.testing import test
    from perception3d.apis.training import dry_run, train

    given = {name: getattr(apis, name) for name in apis.__all__}
    assert {'train': train, 'dry_run': dry_run, 'test': test, 'Inferencer': Inferencer}.items() <= given.items()
    assert set(apis.__all__) <= set(dir(apis)) and all(map(callable, given.values()))


@pytest.mark.parametrize('path', EXAMPLES, ids=module_name)
def test_examples_of_docstrings_run(path):
    result = doctest.testmod(importlib.import_module(module_name(path)), optionflags=doctest.ELLIPSIS)
    assert result.attempted and not result.failed
