"""What `import perception3d` gives: a version, the public names, and nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import perception3d
from perception3d.apis.config import load_config
from perception3d.apis.inferencer import Inferencer
from perception3d.apis.runner import build_runner
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError


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
