"""The packaged weights detect cars of scenes that they never saw, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from perception3d.apis import Inferencer, demo_checkpoint
from perception3d.apis.simulate import simulate
from perception3d.apis.testing import test as run_test
from perception3d.apis.weights import write_weights
from perception3d.checkpoints import load_checkpoint_safely
from perception3d.checks import InputError
from perception3d.engine.agreement import check_trained_classes
from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
from perception3d.formats.nuscenes.info.build import create_infos
from perception3d.formats.nuscenes.simulate.profiles import PROFILES
from perception3d.formats.nuscenes.simulate.writer import WRITER
from perception3d.simulation.jobs import Request

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'fast_bev'


@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of another seed than the training's, a keyframe each."""
    folder = tmp_path_factory.mktemp('unseen') / 'data'
    simulate(WRITER, Request(folder, 1, replace(PROFILES['tiny'], keyframes=1), 1, 20), jobs=1)
    create_infos(folder, progress=False)
    return folder


def test_demo_finds_cars_of_unseen_scenes(world: Path, tmp_path: Path) -> None:
    options = [f'data_root={world}', 'test_dataloader.num_workers=0']
    config = str(CONFIGS / 'fast_bev_tiny_96x352_6e_sim.py')
    metrics = run_test(config, 'demo', options, work_dir=str(tmp_path))
    assert metrics['nuscenes/AP@2m/car'] >= 0.7
    assert metrics['nuscenes/AP@2m/pedestrian'] >= 0.2 and metrics['nuscenes/AP@2m/traffic_cone'] >= 0.3


def test_demo_names_the_packaged_file_and_a_file_of_that_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert demo_checkpoint().stat().st_size < 1_100_000
    packaged = load_checkpoint_safely('demo')
    assert sum(value.numel() for value in packaged['state_dict'].values()) > 230_000
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {'own': torch.ones(2)}}, 'demo')
    assert list(load_checkpoint_safely('demo')['state_dict']) == ['own']
    with pytest.raises(InputError, match=r'demos does not exist: give the path of a \.pth file, or demo for'):
        load_checkpoint_safely('demos')


def test_demo_fits_the_longer_schedule_and_no_other_network() -> None:
    Inferencer(str(CONFIGS / 'fast_bev_tiny_96x352_9e_sim.py'), 'demo', device='cpu')
    with pytest.raises(InputError, match='fast_bev_tiny_96x352_sim.pth|checkpoint demo is of another model'):
        Inferencer(str(CONFIGS / 'fast_bev_tiny_4frame_96x352_9e_sim.py'), 'demo', device='cpu')


def test_demo_knows_the_classes_that_it_was_trained_for() -> None:
    classes = MultiFrameNuScenesDataset.METAINFO['classes']
    meta = load_checkpoint_safely('demo')['meta']
    check_trained_classes(meta, {'classes': classes}, 'demo')
    with pytest.raises(InputError, match='demo was trained for the classes car, .* but the data set has barrier'):
        check_trained_classes(meta, {'classes': classes[::-1]}, 'demo')


def test_weights_are_written_without_the_state_of_the_training(tmp_path: Path) -> None:
    source, out = tmp_path / 'epoch_1.pth', tmp_path / 'weights.pth'
    state = {'layer.weight': torch.arange(6.0).reshape(2, 3)}
    meta = {'epoch': 1, 'cfg': 'long', 'dataset_meta': {'classes': ('car', 'bus')}}
    torch.save({'state_dict': state, 'optimizer': {'state': {}}, 'meta': meta}, source)
    write_weights(source, out)
    content = load_checkpoint_safely(out)
    with pytest.raises(InputError, match='trained for the classes car, bus, but the data set has bus, car'):
        check_trained_classes(content['meta'], {'classes': ('bus', 'car')}, out)
    assert content.keys() == {'state_dict', 'meta'} and content['meta']['epoch'] == 1 and 'cfg' not in content['meta']
    assert torch.equal(content['state_dict']['layer.weight'], state['layer.weight'])
