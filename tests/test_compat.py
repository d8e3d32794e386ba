"""Each fix of compat is still needed, and does what its docstring states."""

from __future__ import annotations

import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from perception3d import compat
from perception3d.checkpoints import load_checkpoint_safely, load_weights
from perception3d.checks import InputError


def test_importing_the_package_imports_nothing_heavy():
    code = (
        'import sys, perception3d; '
        'print([m for m in ("torch", "mmengine", "mmcv", "mmdet3d", "open3d", "numba") if m in sys.modules])'
    )
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == '[]'


def test_mmdet3d_still_asserts_versions():
    # When this fails, mmdet3d accepts the versions that are installed and the fix can go.
    out = subprocess.run([sys.executable, '-c', 'import mmdet3d'], capture_output=True, text=True)
    assert out.returncode != 0 and 'is used but incompatible' in out.stderr


def test_versions_are_true_again_after_the_import():
    import mmcv
    import mmdet
    import mmdet3d

    assert mmdet3d.__version__ == '1.4.0'
    assert mmcv.__version__ != '2.1.0' and mmdet.__version__ != '3.3.0'


def test_mmengine_still_runs_pickles():
    # When this fails, mmengine refuses what its safe loader refuses and the fix can go.
    from mmengine.runner import checkpoint

    assert 'weights_only=False' in inspect.getsource(checkpoint).split('def _safe_torch_load')[1].split('\nclass ')[0]
    assert getattr in checkpoint.get_torch_safe_globals()


def test_mmengine_still_takes_paths():
    # When this fails, mmengine looks for the checkpoint in the folder itself and the fix can go.
    from mmengine.runner import checkpoint

    finder = inspect.getsource(checkpoint).split('def find_latest_checkpoint')[1]
    assert 'last_saved = f.read().strip()' in finder and 'dirname' not in finder


def test_mmengine_still_runs_data_files():
    # When this fails, mmengine and mmdet read pickles, YAML and arrays as data and the fix can go.
    import mmdet.datasets.openimages as openimages
    from mmengine.fileio.handlers import pickle_handler, yaml_handler

    assert 'return pickle.load(' in inspect.getsource(pickle_handler)
    assert 'CLoader as Loader' in inspect.getsource(yaml_handler)
    assert 'allow_pickle=True' in inspect.getsource(openimages)


def test_mmengine_still_imports_for_data():
    # When this fails, configs in JSON and YAML reach no code by mmengine's own rules, and the fix can go.
    from mmcv.ops import nms
    from mmengine.config import Config
    from mmengine.registry import Registry

    assert 'custom_imports' in inspect.getsource(Config.fromfile.from_python)
    assert 'get_object_from_string(key)' in inspect.getsource(Registry.get.gets)
    assert ' = eval(' in inspect.getsource(sys.modules[nms.__module__])


def test_mmdet_still_prints():
    # When this fails, mmdet is quiet by itself and the fix can go.
    out = subprocess.run([sys.executable, '-c', 'import mmdet.datasets'], capture_output=True, text=True, check=True)
    assert 'Could not import OneDL' in out.stdout


def test_importing_mmdet_prints_nothing_of_onedl():
    code = 'import perception3d, mmdet.datasets; print("the rest")'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert 'OneDL' not in out.stdout and 'the rest' in out.stdout


def test_applying_twice_adds_one_finder():
    ops = pytest.importorskip('spconv.pytorch.ops')
    once = ops.indice_conv
    compat.apply()
    assert ops.indice_conv is once
    assert sum(isinstance(finder, compat._PatchFinder) for finder in sys.meta_path) == 1


class _RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('entrance', ['ours', 'mmengine'])
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, entrance):
    from mmengine.runner.checkpoint import CheckpointLoader

    path = tmp_path / 'evil.pth'
    torch.save({'state_dict': {'w': torch.ones(1)}, 'payload': _RunsCode(tmp_path / 'ran')}, path)
    load = load_checkpoint_safely if entrance == 'ours' else CheckpointLoader.load_checkpoint
    with pytest.raises(InputError, match='evil.pth was refused: it holds .*mkdir'):
        load(str(path), map_location='cpu')
    assert not (tmp_path / 'ran').exists()
    # The user may opt out by name.
    load_checkpoint_safely(path, allow_pickle=True)
    assert (tmp_path / 'ran').exists()


class _ReachesOut:
    def __reduce__(self):
        return getattr, (torch.nn.Linear, 'forward')


def test_getattr_is_allowed_for_the_log_of_a_run_alone(tmp_path):
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({'state_dict': {}, 'log': history}, tmp_path / 'log.pth')
    assert load_checkpoint_safely(tmp_path / 'log.pth')['log'].mean() == 1.5
    torch.save({'state_dict': {}, 'log': _ReachesOut()}, tmp_path / 'out.pth')
    with pytest.raises(InputError, match='out.pth was refused'):
        load_checkpoint_safely(tmp_path / 'out.pth')


def test_damaged_and_foreign_checkpoints_are_named(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': torch.nn.Linear(2, 3).state_dict(), 'meta': {'epoch': 4}}, path)
    model = torch.nn.Linear(2, 3)
    assert load_weights(model, path) == {'epoch': 4}
    with pytest.raises(InputError, match=r'weight \(3, 2\) instead of \(4, 2\)'):
        load_weights(torch.nn.Linear(2, 4), path)
    with pytest.raises(InputError, match='1 missing .bias'):
        torch.save(torch.nn.Linear(2, 3, bias=False).state_dict(), path)
        load_weights(model, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match='a.pth'):
        load_weights(model, path)
    with pytest.raises(InputError, match='does not exist'):
        load_weights(model, tmp_path / 'none.pth')


def test_mmengine_still_formats_again(monkeypatch):
    from mmengine.config import Config
    from yapf.yapflib import yapf_api

    texts = []
    form = yapf_api.FormatCode.original
    config = Config(dict(width=3, parts=[dict(a=1)]))
    with monkeypatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', lambda text, **kwargs: (texts.append(text), form(text, **kwargs))[1])
        assert config.pretty_text == config.pretty_text and len(texts) == 2
    first = config.pretty_text
    assert config.pretty_text == first == form(texts[0])[0]
    config.width = 4
    assert config.pretty_text == first.replace('3', '4')


def test_yapf_still_fails_on_a_cut_cache(tmp_path):
    """Two processes of a new installation may read half of the file that the other writes."""
    from yapf_third_party._ylib2to3.pgen2 import driver

    cache = tmp_path / 'grammar.pickle'
    whole = driver.load_grammar('PatternGrammar.txt', str(cache))
    content = cache.read_bytes()
    for size in (0, 1, len(content) // 2, len(content) - 1):
        cache.write_bytes(content[:size])
        with pytest.raises(Exception, match='.*'):
            driver.load_grammar.__wrapped__('PatternGrammar.txt', str(cache))
        read = driver.load_grammar('PatternGrammar.txt', str(cache))
        assert read.states == whole.states and read.labels == whole.labels
        assert cache.read_bytes() == content


def test_mmdet3d_still_counts_voxels():
    # When this fails, mmdet3d takes the size of a batch from the clouds and the fix can go.
    folder = importlib.util.find_spec('mmdet3d.models.detectors').submodule_search_locations[0]
    names = 'voxelnet dynamic_voxelnet mvx_two_stage mvx_faster_rcnn parta2 pv_rcnn sassd'
    for name in names.split():
        assert "batch_size = voxel_dict['coors'][-1, 0]" in (Path(folder) / f'{name}.py').read_text(), name
