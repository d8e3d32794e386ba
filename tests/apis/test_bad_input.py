"""Broken input from the command line to the exit code: one line on stderr, and earlier results stay as they are."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from kitti_tree import KittiTree
from mmengine.runner import Runner
from yapf.yapflib import yapf_api

from perception3d.apis.cli import run_tool
from perception3d.apis.config import load_config
from perception3d.checkpoints import load_checkpoint_safely
from perception3d.formats.kitti.info import create_infos
from perception3d.registry import MODELS
from tools import create_data, test, train

ROOT = Path(__file__).resolve().parents[2]
CAMERA = ROOT / 'configs' / 'fast_bev' / 'fast_bev_tiny_96x352_9e_sim.py'
LIDAR = ROOT / 'configs' / 'point_pillars' / 'point_pillars_tiny_c4_10e_kitti_sim.py'
# Two steps on small images; the data come from one worker.
SMALL = [
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    *(f'{split}_dataloader.num_workers=1' for split in ('train', 'val', 'test')),
]
TESTED = ['--work-dir', 'done', '--out', 'done/metrics.json', '--cfg-options']
SMALL_CAMERA = [
    *SMALL,
    'train_dataloader.dataset.ann_file=perception3d_infos_hand_train.pkl',
    *(f'{split}_dataloader.dataset.ann_file=perception3d_infos_hand_val.pkl' for split in ('val', 'test')),
    *(f'{split}_dataloader.dataset.pipeline.1.final_hw=(32, 96)' for split in ('train', 'val', 'test')),
]


EARLIER = ('metrics.json', 'epoch_1.pth', 'epoch_9.pth', 'last_checkpoint')


def contents(folder: Path) -> dict[Path, bytes]:
    """The files below a folder; the lock of a command stays in it, empty."""
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file() and path.name != '.lock'}


@pytest.fixture(autouse=True)
def plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the layout of the config's text in the log, which takes longer than all else here."""
    monkeypatch.setattr(yapf_api, 'FormatCode', lambda text, **kwargs: (text, True))


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what earlier commands have left, in the folder where the test now is."""
    monkeypatch.chdir(tmp_path)
    folder = Path('done')
    folder.mkdir()
    for name in EARLIER:
        (folder / name).write_text(f'the earlier {name}')
    return folder


@pytest.fixture
def fails(capfd: pytest.CaptureFixture, done: Path) -> Callable[..., str]:
    """Runs a command that must fail; returns what it and its worker wrote to stderr, which must be one line."""

    def run(tool: ModuleType, *args: object) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_tool(lambda _: tool.main([str(arg) for arg in args]))
        written = capfd.readouterr().err
        assert ended.value.code == 2, written
        assert written.startswith('error: ') and written.count('\n') == 1 and len(written) < 700, written
        # A training with --overwrite has begun: its folder no longer names an earlier checkpoint.
        kept = [name for name in EARLIER if '--overwrite' not in args or name != 'last_checkpoint']
        assert {name: (done / name).read_text() for name in kept} == {name: f'the earlier {name}' for name in kept}
        assert {path.name for path in done.iterdir() if path.suffix in ('.pth', '.json')} == set(EARLIER[:3])
        assert not multiprocessing.active_children(), 'the worker has ended'
        return written

    return run


def weights(config: Path, path: Path, **more: object) -> Path:
    """Writes a checkpoint of a model as it is built."""
    torch.manual_seed(0)
    torch.save({'state_dict': MODELS.build(load_config(config).model).state_dict(), **more}, path)
    return path


@pytest.fixture(scope='module')
def camera_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights(CAMERA, tmp_path_factory.mktemp('camera') / 'camera.pth')


@pytest.fixture(scope='module')
def lidar_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights(LIDAR, tmp_path_factory.mktemp('lidar') / 'lidar.pth')


@pytest.fixture
def cameras(nuscenes_tree: Path, done: Path) -> Path:
    return Path(shutil.copytree(nuscenes_tree, 'cameras'))


@pytest.fixture(scope='module')
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames to train on, one to test on. Read only."""
    root = KittiTree(tmp_path_factory.mktemp('kitti')).write({'train': ['000000', '000001'], 'val': ['000004']})
    create_infos(root, progress=False)
    return root


@pytest.fixture
def clouds(kitti: Path, done: Path) -> Path:
    return Path(shutil.copytree(kitti, 'clouds'))


def image_of(root: Path, scene: str) -> Path:
    return sorted((root / 'samples' / 'CAM_FRONT').glob(f'{scene}__*'))[1]


def cut_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_image(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def halve_image(path: Path) -> None:
    image = cv2.imread(str(path))
    cv2.imwrite(str(path), cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2)))


def spoil_points(path: Path) -> None:
    points = np.fromfile(path, np.float32).reshape(-1, 4)
    points[7, 1] = np.nan
    points.tofile(path)


def empty_file(path: Path) -> None:
    path.write_bytes(b'')


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (cut_image, 'does not decode as an image: it is damaged, copy or download it again'),
        (
            halve_image,
            'is 48x27 pixels, but its table says 96x54: the intrinsics would not fit, use the original images',
        ),
        (Path.unlink, 'does not exist: check the data root and that the archive was unpacked completely'),
    ],
)
def test_a_bad_image_ends_a_test(cameras: Path, camera_weights: Path, fails, damage: Callable, words: str):
    path = image_of(cameras, 'scene-b')
    damage(path)
    assert f'{path} {words}' in fails(test, CAMERA, camera_weights, *TESTED, *SMALL_CAMERA, 'data_root=cameras')


def test_a_bad_image_ends_a_training(cameras: Path, fails):
    path = image_of(cameras, 'scene-a')
    halve_image(path)
    command = [CAMERA, '--work-dir', 'done', '--overwrite', '--cfg-options', *SMALL_CAMERA, 'data_root=cameras']
    assert f'{path} is 48x27 pixels, but its table says 96x54' in fails(train, *command)


def test_a_bad_image_of_the_validation_leaves_the_epochs_before_it(cameras: Path, capfd: pytest.CaptureFixture):
    path = image_of(cameras, 'scene-b')
    cut_image(path)
    command = [CAMERA, '--work-dir', 'done', '--overwrite', '--cfg-options', *SMALL_CAMERA, 'data_root=cameras']
    with pytest.raises(SystemExit) as ended:
        run_tool(lambda _: train.main([str(arg) for arg in command]))
    assert ended.value.code == 2 and capfd.readouterr().err.startswith(f'error: {path} does not decode')
    assert load_checkpoint_safely('done/epoch_1.pth')['meta']['epoch'] == 1


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (cut_file, 'is truncated: 10300 bytes is not a multiple of 16 (4 floats a point)'),
        (spoil_points, 'holds NaN or infinity in 1 of 650 points (first: point 7)'),
        (empty_file, 'holds no points'),
    ],
)
def test_a_bad_cloud_ends_a_test(clouds: Path, lidar_weights: Path, fails, damage: Callable, words: str):
    path = clouds / 'training' / 'velodyne' / '000004.bin'
    damage(path)
    assert f'{path} {words}' in fails(test, LIDAR, lidar_weights, *TESTED, *SMALL, 'data_root=clouds')


def test_a_bad_cloud_ends_a_training(clouds: Path, fails):
    path = clouds / 'training' / 'velodyne' / '000001.bin'
    spoil_points(path)
    command = [LIDAR, '--work-dir', 'done', '--overwrite', '--cfg-options', *SMALL, 'data_root=clouds']
    assert f'{path} holds NaN or infinity in 1 of 650 points' in fails(train, *command)


class RunsCode:
    def __reduce__(self) -> tuple:
        return os.mkdir, ('ran',)


def training(state: dict, **more: object) -> dict:
    """The content of a checkpoint of a training after two steps."""
    return dict(state_dict=state, meta=dict(epoch=1, iter=2), message_hub={}, optimizer={}, **more)


def bad_checkpoint(kind: str, good: Path) -> None:
    """Writes bad.pth; `good` holds the weights of CAMERA."""
    state = torch.load(good)['state_dict']
    other = {name: value for name, value in state.items() if not name.startswith('bbox_head.')}
    other['neck_3d.model.1.conv.weight'] = torch.zeros(3, 4, 1, 1)
    content = {
        'code': training(state, extra=RunsCode()),
        'other': training(other),
        'weights': dict(state_dict=state),
        'cut': training(state),
    }[kind]
    torch.save(content, 'bad.pth')
    if kind == 'cut':
        # Cut off to a length at which the system refuses to look for the end of the archive.
        Path('bad.pth').write_bytes(Path('bad.pth').read_bytes()[:5000])


BAD_CHECKPOINTS = {
    'code': 'bad.pth was refused: it holds posix.mkdir, which would run code from the file; ask for one',
    'other': 'bad.pth is of another model or variant than FastBEV in this config: 1 of another shape (neck_3d.model.1',
    'cut': 'bad.pth cannot be read (',
}


@pytest.mark.parametrize('kind', BAD_CHECKPOINTS)
def test_a_bad_checkpoint_ends_a_test(camera_weights: Path, fails, kind: str):
    bad_checkpoint(kind, camera_weights)
    written = fails(test, CAMERA, 'bad.pth', *TESTED, *SMALL_CAMERA, 'data_root=cameras')
    assert BAD_CHECKPOINTS[kind] in written and not Path('ran').exists()


@pytest.mark.parametrize(
    ('kind', 'words'),
    [
        *list(BAD_CHECKPOINTS.items())[:2],
        (
            'weights',
            'bad.pth holds no meta and no message_hub and no optimizer of a training, so none can be resumed from it: '
            'begin one from',
        ),
    ],
)
def test_a_training_is_not_resumed_from_a_bad_checkpoint(
    cameras: Path, camera_weights: Path, fails, kind: str, words: str
):
    bad_checkpoint(kind, camera_weights)
    options = ['--cfg-options', *SMALL_CAMERA, 'data_root=cameras']
    written = fails(train, CAMERA, '--work-dir', 'new', '--resume', 'bad.pth', *options)
    assert words in written and not Path('ran').exists() and not list(Path('new').glob('*.pth'))


def test_a_training_does_not_begin_from_a_bad_checkpoint(cameras: Path, camera_weights: Path, fails):
    options = ['--overwrite', '--cfg-options', *SMALL_CAMERA, 'data_root=cameras', 'load_from=bad.pth']
    assert 'bad.pth does not exist: correct load_from' in fails(train, CAMERA, '--work-dir', 'done', *options)
    bad_checkpoint('code', camera_weights)
    assert 'bad.pth was refused' in fails(train, CAMERA, '--work-dir', 'done', *options)
    assert not Path('ran').exists()


def test_the_weights_that_a_training_began_from_are_not_those_that_are_tested(
    done: Path, monkeypatch: pytest.MonkeyPatch
):
    plugin = ROOT / 'tests' / 'plugin' / 'plugin_config.py'
    for seed in (1, 2):
        weights(plugin, Path(f'{seed}.pth'), seed=seed)
    tested = []
    monkeypatch.setattr(Runner, 'test', lambda runner: tested.append((runner.load_or_resume(), runner.model)) or {})
    assert test.main([str(plugin), '1.pth', '--work-dir', 'done', '--cfg-options', '+load_from=2.pth']) == 0
    state = tested[0][1].state_dict()
    assert all(torch.equal(state[name], value) for name, value in torch.load('1.pth')['state_dict'].items())


def test_earlier_checkpoints_are_not_overwritten(fails):
    root = ['--cfg-options', 'data_root=.']
    written = fails(train, CAMERA, '--work-dir', 'done', *root)
    assert 'done holds checkpoints of a training (' in written and 'none can be resumed: replace them with' in written
    written = fails(train, CAMERA, '--work-dir', 'done', '--resume', *root)
    assert 'done holds no complete checkpoint' in written and '--overwrite' in written


NO_CONFIGS = {
    'text.txt': ('model = dict()', 'text.txt is not a config: expected a .py, .json or .yaml file'),
    'prose.py': ('no config at all', 'prose.py is not a config: it is not Python'),
    'empty.py': ('lr = 3', 'empty.py is not a config: it defines no `model = dict(type=..., ...)`'),
    'gone.py': (None, 'gone.py does not exist: give the path of a config'),
}


@pytest.mark.parametrize('tool', [train, test])
def test_what_is_not_a_config_ends_a_command(done: Path, fails, tool: ModuleType):
    arguments = [*(['demo', '--out', 'done/metrics.json'] if tool is test else []), '--work-dir', 'done']
    for name, (text, words) in NO_CONFIGS.items():
        if text is not None:
            Path(name).write_text(text)
        assert words in fails(tool, name, *arguments)
    words = "the config has no key 'data_rot': did you mean data_root"
    assert words in fails(tool, CAMERA, *arguments, '--cfg-options', 'data_rot=x', 'data_root=.')


@pytest.mark.parametrize('config', [CAMERA, LIDAR])
def test_a_missing_root_ends_a_command(camera_weights: Path, lidar_weights: Path, fails, config: Path):
    name, good = ('nuscenes', camera_weights) if config == CAMERA else ('kitti', lidar_weights)
    commands = [(test, config, good, *TESTED), (train, config, '--work-dir', 'new', '--cfg-options')]
    Path('there').mkdir()
    for command in commands:
        assert 'error: folder nowhere (data_root of ' in fails(*command, 'data_root=nowhere')
        written = fails(*command, 'data_root=there')
        assert 'error: there/perception3d_' in written and written.endswith('--root there\n')
        assert f'does not exist: run: python tools/create_data.py {name} ' in written


def test_a_missing_table_or_root_ends_create_data(cameras: Path, clouds: Path, fails):
    before = contents(cameras)
    table = cameras / 'v1.0-hand' / 'ego_pose.json'
    table.rename('ego_pose.json')
    assert 'lacks 1 of 13 tables (ego_pose.json)' in fails(create_data, 'nuscenes', '--root', cameras)
    assert contents(cameras) == {path: content for path, content in before.items() if path != table}
    for name in ('nuscenes', 'kitti', 'lidar'):
        assert 'nowhere does not exist' in fails(create_data, name, '--root', 'nowhere')
    before = contents(clouds)
    (clouds / 'ImageSets' / 'val.txt').write_text('000004\n000077\n')
    assert '000077' in fails(create_data, 'kitti', '--root', clouds)
    assert {**contents(clouds), clouds / 'ImageSets' / 'val.txt': b'000004\n'} == before


def test_a_scene_without_objects_is_trained_and_tested_on(cameras: Path, capfd: pytest.CaptureFixture):
    for name, key in (('sample_annotation', 'token'), ('instance', 'first_annotation_token')):
        table = cameras / 'v1.0-hand' / f'{name}.json'
        rows = [row for row in json.loads(table.read_text()) if 'scene-b' in row[key]]
        table.write_text(json.dumps(rows))
    splits = {'hand_train': ['scene-a', 'scene-b'], 'hand_val': ['scene-a']}
    (cameras / 'v1.0-hand' / 'splits.json').write_text(json.dumps(splits))
    assert create_data.main(['nuscenes', '--root', 'cameras']) == 0
    options = [*SMALL_CAMERA, 'data_root=cameras']
    assert train.main([str(CAMERA), '--work-dir', 'run', '--cfg-options', *options]) == 0
    state = load_checkpoint_safely('run/epoch_1.pth')['state_dict']
    assert all(value.isfinite().all() for value in state.values())
    options.append('test_dataloader.dataset.ann_file=perception3d_infos_hand_val.pkl')
    assert test.main([str(CAMERA), 'run/epoch_1.pth', *TESTED, *options]) == 0
    assert json.loads(Path('done/metrics.json').read_text())['nuscenes/mAP'] == 0
    assert 'Traceback' not in capfd.readouterr().err


# Runs a tool as a shell would, and prints at its end which libraries it has loaded.
WATCHED = """
import atexit, runpy, sys
files = lambda: {line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}
atexit.register(lambda: print(*files()))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def test_a_command_of_its_own_says_the_same_and_needs_no_display(cameras: Path, camera_weights: Path):
    """What a shell sees, with the warnings of all libraries and the end of the worker."""
    path = image_of(cameras, 'scene-b')
    cut_image(path)
    command = [ROOT / 'tools' / 'test.py', CAMERA, camera_weights, '--show-dir', 'shown', *TESTED, *SMALL_CAMERA]
    command = [sys.executable, '-c', WATCHED, *map(str, command), 'data_root=cameras']
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert out.returncode == 2
    assert out.stderr == f'error: {path} does not decode as an image: it is damaged, copy or download it again\n'
    assert Path('done/metrics.json').read_text() == 'the earlier metrics.json'
    # What wheels bring along is there on every machine.
    wheels = (sys.prefix, os.path.realpath(sys.prefix))
    libraries = [name for name in out.stdout.splitlines()[-1].split() if not name.startswith(wheels)]
    assert any('libc.so' in name for name in libraries)
    assert [name for name in libraries if re.search('libGL|libEGL|libX11|libxcb|libgtk|libtk|Qt', name)] == []
