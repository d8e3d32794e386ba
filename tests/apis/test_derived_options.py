"""An option for a value at the top of a config changes all that follows from it, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from perception3d.apis.config import load_config
from perception3d.apis.runner import _warn_of_other_schedule
from perception3d.checks import InputError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SHIPPED = sorted(path for path in CONFIGS.glob('*/*.py') if path.parent.name not in ('_base_', 'experiments'))
BASE = (
    'epochs = 10\nrise = epochs // 5\nmodel = dict(type="A")\n'
    'plan = [dict(end=rise), dict(begin=rise, end=epochs)]\nsize = [4, 2]\nmodel["shape"] = [n * 10 for n in size]\n'
)
LEAF = (
    'from mmengine.config import read_base\nwith read_base():\n    from .base import *\n'
    'rate, epochs = 0.5, 20\nplan[1]["end"] = epochs\nunused = 7\n'
)


def _leaf(folder):
    (folder / 'base.py').write_text(BASE)
    (folder / 'leaf.py').write_text(LEAF)
    return folder / 'leaf.py'


def test_what_a_file_and_its_base_compute_follows_from_the_option(tmp_path):
    plan = load_config(_leaf(tmp_path)).plan
    assert (plan[0].end, plan[1].begin, plan[1].end) == (2, 2, 20)
    plan = load_config(_leaf(tmp_path), {'epochs': 5}).plan
    assert (plan[0].end, plan[1].begin, plan[1].end) == (1, 1, 5)
    config = load_config(_leaf(tmp_path), {'epochs': 5, 'rise': 3, 'size': [1, 3], 'plan.0.end': 4})
    assert (config.plan[0].end, config.plan[1].begin, config.plan[1].end) == (4, 3, 5)
    assert config.model.shape == [10, 30] and config['size'] == [1, 3] and '__option_values__' not in config
    # An option of one load is none of the next.
    assert load_config(_leaf(tmp_path)).epochs == 20


def test_an_option_from_which_nothing_follows_is_refused(tmp_path):
    path = _leaf(tmp_path)
    with pytest.raises(InputError, match=r'unused=8 changes nothing: .*leaf.py is computed from unused .*\+unused=8'):
        load_config(path, {'unused': 8})
    assert load_config(path, {'unused': 7}).unused == 7
    assert load_config(path, {'+unused': 8}).unused == 8
    with pytest.raises(InputError, match="does not load as a config with epochs='many': TypeError"):
        load_config(path, {'epochs': 'many'})


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_schedules_end_where_the_training_ends(path):
    if 'max_epochs' not in (config := load_config(path)) or 'overfit' in path.stem:
        pytest.skip('trains for iterations')
    for epochs, changed in ((config.max_epochs, config), (1, load_config(path, {'max_epochs': 1}))):
        by_epoch = [entry for entry in changed.param_scheduler if entry.by_epoch]
        assert changed.train_cfg.max_epochs == epochs == max(entry.end for entry in by_epoch)
        for entry in by_epoch:
            assert 0 <= entry.begin < entry.end <= epochs and entry.get('T_max', 1) > 0
        starts = {entry.begin for entry in by_epoch} - {0}
        assert starts <= {entry.end for entry in by_epoch}


def test_a_longer_warm_up_moves_what_comes_after_it():
    path = CONFIGS / 'fast_bev/fast_bev_tiny_96x352_9e_sim.py'
    rise, fall = load_config(path, {'warmup_epochs': 1}).param_scheduler
    assert (rise.end, fall.begin, fall.end) == (1, 1, 9)


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """Configs that hold values alone: as mmengine writes them into a work folder, and in the formats of data."""
    folder = tmp_path_factory.mktemp('plain')
    text = load_config(CONFIGS / 'fast_bev/fast_bev_tiny_96x352_9e_sim.py').pretty_text
    (folder / 'written.py').write_text(text)
    written = plain_values(load_config(folder / 'written.py').to_dict())
    (folder / 'data.json').write_text(json.dumps(written))
    (folder / 'data.yaml').write_text(yaml.safe_dump(written))
    return folder


def plain_values(node):
    if isinstance(node, dict):
        # A config in a format of data names registered parts without their modules.
        return {key: value.rpartition('.')[2] if key == 'type' else plain_values(value) for key, value in node.items()}
    return [plain_values(value) for value in node] if isinstance(node, (list, tuple)) else node


@pytest.mark.parametrize('name', ['written.py', 'data.json', 'data.yaml'])
def test_a_config_of_values_refuses_what_it_cannot_derive(plain, name):
    path = plain / name
    before = load_config(path)
    for key in ('max_epochs', 'warmup_epochs', 'num_frames'):
        if key in before:
            with pytest.raises(InputError, match=rf'^{key}=7 (changes nothing|would change a part)') as error:
                load_config(path, {key: 7})
            assert '\n' not in str(error.value)
    with pytest.raises(InputError, match=r'Set train_cfg.max_epochs, param_scheduler.1.end and'):
        load_config(path, {'max_epochs': 2})
    changed = load_config(path, {'data_root': 'elsewhere', '+work_dir': 'w', 'load_from': 'x.pth'})
    assert changed.train_dataloader.dataset.data_root == changed.data_root == 'elsewhere'
    assert (changed.work_dir, changed.load_from) == ('w', 'x.pth')
    assert load_config(path, {'max_epochs': before.max_epochs})._cfg_dict == before._cfg_dict
    parts = load_config(path, {'train_cfg.max_epochs': 2, 'param_scheduler.1.end': 2})
    assert parts.train_cfg.max_epochs == parts.param_scheduler[1].end == 2


def test_a_path_that_was_made_from_the_root_is_not_left_behind(tmp_path):
    path = tmp_path / 'data.json'
    path.write_text(json.dumps({'model': {}, 'root': 'd', 'train': {'root': 'd', 'file': 'd/infos.pkl'}}))
    with pytest.raises(InputError, match='root=e would change a part .* Set train.file and'):
        load_config(path, {'root': 'e'})


def test_an_option_that_lets_the_rates_end_elsewhere_is_refused(tmp_path):
    path = tmp_path / 'half.py'
    path.write_text(
        'model = dict(type="A")\nmax_epochs = 4\ntrain_cfg = dict(max_epochs=max_epochs)\n'
        'param_scheduler = [dict(by_epoch=True, begin=0, end=4)]\n'
    )
    with pytest.raises(InputError, match='half.py with max_epochs=3: train_cfg.max_epochs .* 3, but .* ends at 4; set'):
        load_config(path, {'max_epochs': 3})
    assert load_config(path, {'max_epochs': 3, 'param_scheduler.0.end': 3}).train_cfg.max_epochs == 3
    tiny = CONFIGS / 'fast_bev/fast_bev_tiny_96x352_9e_sim.py'
    assert load_config(tiny, {'data_root': 'd', 'train_cfg.max_epochs': 2}).train_cfg.max_epochs == 2


@pytest.mark.parametrize('path', [path for path in SHIPPED if 'fast_bev' in path.stem], ids=lambda path: path.stem)
def test_the_encoder_takes_as_many_frames_as_are_loaded(path):
    config = load_config(path, {'num_frames': 2})
    before = load_config(path)
    frames = before.get('num_frames')
    assert config.model.neck_3d.fuse_channels * frames == before.model.neck_3d.fuse_channels * 2
    assert config.test_dataloader.dataset.num_frames == config.val_dataloader.dataset.num_frames == 2


def test_a_schedule_that_ends_elsewhere_is_reported(capsys):
    path = CONFIGS / 'fast_bev/fast_bev_tiny_96x352_9e_sim.py'
    _warn_of_other_schedule(load_config(path, {'train_cfg.max_epochs': 2}))
    said = capsys.readouterr().out
    assert 'max_epochs of the config is 2, but its param_scheduler ends at 9: set the end of the' in said
    _warn_of_other_schedule(load_config(path, {'max_epochs': 2}))
    assert not capsys.readouterr().out


def test_an_option_with_the_value_that_is_there_changes_nothing():
    path = CONFIGS / 'cylinder3d' / 'cylinder3d_tiny_120x90x16_12e_semantickitti_sim.py'
    same = load_config(path, {'grid_shape': [120, 90, 16]})
    assert same.model == load_config(path).model
