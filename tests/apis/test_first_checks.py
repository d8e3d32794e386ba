"""Wrong paths and wrong kinds of files are refused before anything heavy is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perception3d.apis.config import load_config
from perception3d.apis.config_data_root import data_root_of, format_of
from perception3d.apis.config_sources import read_sources
from perception3d.apis.first_checks import check_first
from perception3d.benchmark import benchmark_names, find_benchmarks
from perception3d.checkpoint_files import require_checkpoint
from perception3d.checkpoints import load_checkpoint_safely
from perception3d.checks import InputError

ROOT = Path(__file__).resolve().parents[2]
TINY = 'fast_bev_tiny_96x352_9e_sim'
EXPERIMENT = str(ROOT / 'configs' / 'experiments' / 'bev_distillation.py')
DATA = ['--cfg-options', 'data_root=.']

# Each command with a part of its message. `words.txt` is a text file, and `kept` a folder with epoch_1.pth.
REFUSED = {
    'train missing data': (
        ['train', TINY, '--cfg-options', 'data_root=kep'],
        'folder kep (data_root of ', 'does not exist (did you mean kept?): unpack the data set there, or let python '
        'tools/simulate.py nuscenes --out kep make one, then run: python tools/create_data.py nuscenes --root kep',
    ),
    'train missing checkpoint': (
        ['train', TINY, *DATA, 'load_from=kept/epoch_2.pth'],
        'kept/epoch_2.pth does not exist: correct load_from, which an option sets',
    ),
    'train resume': (['train', TINY, '--resume', 'kept/epoch_2.pth', *DATA], 'did you mean kept/epoch_1.pth?'),
    'train an experiment': (['train', EXPERIMENT], 'is an experiment file, not a config: run it with python tools/exp'),
    'train no config': (['train', 'fast_bev_tiny_96x352_9e_sin'], 'does not exist: did you mean '),
    'test missing checkpoint': (['test', TINY, 'nowhere.pth'], 'nowhere.pth does not exist: give the path of a .pth'),
    'test text': (['test', TINY, 'words.txt'], 'words.txt is a text file, not a checkpoint: give a .pth file'),
    'test folder': (['test', TINY, 'kept'], 'kept is a folder, not a file: give one of its files, such as kept/'),
    'test missing data': (['test', TINY, 'demo', '--cfg-options', 'data_root=words.txt'], 'is a file, not a folder'),
    'infer': (['infer', TINY, 'demo', 'word.txt', '--out', 'out'], 'word.txt does not exist', 'did you mean words.'),
    'export': (['export', TINY, 'words.txt', '--out', 'a.onnx'], 'is a text file'),
    'compare': (['compare', f'a={TINY},words.txt', '--out', 'out', *DATA], 'is a text file'),
    'browse_dataset': (['browse_dataset', TINY, '--out', 'out', '--cfg-options', 'data_root=no'], 'folder no (data_'),
    'print_config': (['print_config', 'nothing_like_it_xyz'], 'does not exist: give the path of a config'),
    'convert_weights': (['convert_weights', 'no.pth', '--config', TINY, '--out', 'o.pth'], 'no.pth does not exist'),
    'benchmark': (['benchmark', TINY, '--checkpoint', 'words.txt', '--out', 'out'], 'is a text file'),
    'train misspelt key': (
        ['train', TINY, *DATA, 'train_cfg.max_epoch=2'],
        "the config has no key 'train_cfg.max_epoch': did you mean train_cfg.max_epochs",
    ),
    'experiment': (['experiment', 'words.py'], 'words.py is a config, not an experiment file: train it with'),
}  # fmt: skip

_RUN_ALL = """
import contextlib, importlib, io, json, sys
from perception3d.apis.cli import run_tool
written = {}
for name, words in json.loads(sys.argv[1]).items():
    tool = importlib.import_module('tools.' + words[0])
    text = io.StringIO()
    with contextlib.redirect_stderr(text), contextlib.redirect_stdout(text):
        try:
            run_tool(lambda _: tool.main(words[1:]))
        except SystemExit as end:
            code = end.code
    heavy = sorted({'torch', 'mmcv', 'mmdet3d', 'numba', 'cv2'} & sys.modules.keys())
    written[name] = [code, text.getvalue(), heavy]
print(json.dumps(written))
"""


def run_all(commands: dict[str, list[str]], folder: Path) -> dict[str, list]:
    """Runs commands in one new process; returns of each its code, what it wrote, and which packages are imported."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    ended = subprocess.run(
        [sys.executable, '-c', _RUN_ALL, json.dumps(commands)],
        cwd=folder, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(ended.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / 'words.txt').write_text('my weights\n')
    (tmp_path / 'words.py').write_text('model = dict(type="Net")\n')
    (tmp_path / 'kept').mkdir()
    (tmp_path / 'kept' / 'epoch_1.pth').write_bytes(b'PK\x03\x04')
    return tmp_path


def test_paths_are_refused_before_torch_is_imported(folder: Path):
    for name, (code, text, heavy) in run_all({name: words for name, (words, *_) in REFUSED.items()}, folder).items():
        assert code == 2 and text.startswith('error: ') and text.count('\n') == 1, (name, text)
        assert all(part in text for part in REFUSED[name][1:]), (name, text)
        assert not heavy, (name, heavy)


def test_help_needs_no_torch(tmp_path: Path):
    tools = sorted(path.stem for path in (ROOT / 'tools').glob('*.py'))
    for name, (code, text, heavy) in run_all({name: [name, '--help'] for name in tools}, tmp_path).items():
        assert code == 0 and 'usage:' in text, (name, text)
        # numba and OpenCV: the writers of the formats.
        assert not {'torch', 'mmcv', 'mmdet3d'} & set(heavy), (name, heavy)


def test_the_names_in_the_source_are_those_of_the_benchmarks():
    assert benchmark_names() == list(find_benchmarks())


@pytest.mark.parametrize(
    'name', [TINY, 'point_pillars_secfpn_160e_kitti', 'cylinder3d_tiny_120x90x16_12e_semantickitti_sim']
)
def test_the_data_root_is_that_of_the_loaded_config(name: str):
    (path,) = (ROOT / 'configs').glob(f'*/{name}.py')
    trees = read_sources(path)
    loaded = load_config(path)
    assert data_root_of(path, trees, {}) == loaded.data_root
    assert loaded.test_dataloader.dataset.type.__module__.split('.')[2].replace('_', '-') == format_of(trees)
    assert data_root_of(path, trees, {'data_root': 'elsewhere'}) == 'elsewhere'


@pytest.mark.parametrize(
    ('text', 'options'),
    [
        ('import os\ndata_root = os.environ["DATA"]', {}),
        ('data_root = "s3://bucket"', {}),
        ('data_root = "a"\ntrain_dataloader = dict(dataset=dict(data_root="b"))', {}),
        ('data_root = "a"\ntrain_dataloader = dict(dataset=dict(ann_file="/b/infos.pkl"))', {}),
        ('data_root = "a"\nloader = dict()\nloader.data_root = "b"', {}),
        ('data_root = "a"\nloader = dict(**{"data_root": "b"})', {}),
        ('data_root = "a"', {'test_dataloader.dataset.data_root': 'b'}),
        ('data_root = "a"', {'data_root': ['b', 'c']}),
        ('', {}),
    ],
)
def test_where_another_root_is_possible_none_is_checked(tmp_path: Path, text: str, options: dict):
    path = tmp_path / 'config.py'
    path.write_text(text)
    assert data_root_of(path, read_sources(path), options) is None


def test_settings_above_the_bases_and_texts_in_parts_count(tmp_path: Path):
    (tmp_path / 'base.py').write_text('data_root = "of_base"\nloader = dict(dataset=dict(data_root=data_root))\n')
    read = 'from mmengine.config import read_base\nwith read_base():\n    from .base import *\n'
    for text, root in {
        f'data_root = "above"\n{read}': 'above',
        f'{read}data_root = "below"\n': 'below',
        read: 'of_base',
    }.items():
        (tmp_path / 'leaf.py').write_text(text)
        assert data_root_of(tmp_path / 'leaf.py', read_sources(tmp_path / 'leaf.py'), {}) == root
    written = tmp_path / 'written.py'
    written.write_text('data_root = "a"\nloader = dict(dataset=dict(data_root="a"))\n')
    assert data_root_of(written, read_sources(written), {}) == 'a'


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'is an empty file'),
        ('Gewichte für Menschen'.encode(), 'is a text file, not a checkpoint'),
        (b'<!DOCTYPE html><html></html>', 'is a web page, not a checkpoint: download the file itself'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'is a pointer of Git LFS, not a checkpoint: get the file'),
        (b'\x1f\x8b\x08', 'is a gzip archive, not a checkpoint: unpack it'),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path: Path, content: bytes, words: str):
    path = tmp_path / 'weights.pth'
    path.write_bytes(content)
    for read in (require_checkpoint, load_checkpoint_safely):
        with pytest.raises(InputError, match=words):
            read(path)


def test_a_checkpoint_of_the_old_format_is_one(tmp_path: Path):
    import torch

    path = tmp_path / 'old.pth'
    torch.save({'state_dict': {'weight': torch.ones(2)}}, path, _use_new_zipfile_serialization=False)
    assert require_checkpoint(path) == path


def test_good_paths_pass(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    options = ['data_root=kept', 'load_from=torchvision://resnet18', '+model.teacher_checkpoint=demo']
    check_first(TINY, 'demo', options, inputs=['words.txt', 'kept'], reads_data=True)
