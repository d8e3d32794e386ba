"""The silent traps of Python configs are errors, and options are checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from shipped import CONFIGS

from perception3d.apis.config import load_config, part_of
from perception3d.apis.config_names import find_config, renamed_config
from perception3d.apis.option_texts import parse_options
from perception3d.checks import InputError

BASE = "model = dict(type='A', depth=1, layers=[dict(width=3), dict(width=4)])\n"


def _write(folder, **texts):
    for name, text in texts.items():
        (folder / f'{name}.py').write_text(text)
    return folder / f'{next(reversed(texts))}.py'


def test_a_leaf_inherits_and_options_change_it(tmp_path):
    leaf = 'from mmengine.config import read_base\nwith read_base():\n    from .base import *\nmodel.update(depth=2)\n'
    path = _write(tmp_path, base=BASE, leaf=leaf)
    config = load_config(path, {'model.layers.1.width': 7, '+model.extra.deep': 1})
    assert config.model.depth == 2 and config.model.layers[1].width == 7 and config.model.extra.deep == 1
    assert config.default_scope == 'mmdet3d'
    assert 'width=7' in part_of(config, 'model.layers')


def test_an_option_for_the_top_reaches_the_parts_that_share_it(tmp_path):
    text = (
        "data_root = 'a'\nmodel = dict(type='A')\nloaders = [dict(set=dict(data_root='a')), dict(data_root='other')]\n"
    )
    config = load_config(_write(tmp_path, leaf=text), {'data_root': 'b'})
    assert config.loaders[0].set.data_root == 'b' and config.loaders[1].data_root == 'other'


@pytest.mark.parametrize('key', ['voxel_size', 'voxel_size.0', '+voxel_size'])
def test_an_option_for_a_list_at_the_top_names_the_parts_that_have_it(tmp_path, key):
    text = "voxel_size = [1, 2]\nmodel = dict(type='A', voxel_size=[1, 2])\nloaders = [dict(voxel_size=[1, 2])]\n"
    with pytest.raises(InputError, match='voxel_size at the top .* Set model.voxel_size, loaders.0.voxel_size and'):
        load_config(_write(tmp_path, leaf=text), {key: [3, 4]})


def test_a_list_of_parts_at_the_top_can_be_set(tmp_path):
    text = "model = dict(type='A')\ncustom_hooks = []\nparam_scheduler = [dict(end=1)]\n"
    config = load_config(_write(tmp_path, leaf=text), {'custom_hooks': [dict(type='B')], 'param_scheduler.0.end': 2})
    assert config.custom_hooks[0].type == 'B' and config.param_scheduler[0].end == 2


@pytest.mark.parametrize(
    'key, message',
    [
        ('model.dept', "no key 'model.dept': did you mean model.depth"),
        ('modle.depth', "no key 'modle': did you mean model"),
        ('model.layers.5.width', 'no key'),
        ('width', 'no key'),
    ],
)
def test_a_mistyped_option_is_an_error(tmp_path, key, message):
    with pytest.raises(InputError, match=message):
        load_config(_write(tmp_path, base=BASE), {key: 1})


@pytest.mark.parametrize(
    'text, message',
    [
        ("_base_ = ['./base.py']\nmodel = dict(type='A')\n", 'leaf.py:1 sets _base_, which a Python config ignores'),
        ('model = dict(\n', 'leaf.py is not a config: it is not Python'),
        ('x = 1\n', 'defines no `model'),
        ("model = dict(type='A', x=undefined)\n", 'does not load as a config: NameError'),
        (
            'from mmengine.config import read_base\nwith read_base():\n    from .base import model as teacher\n'
            '    from .base import model as student\nmodel = dict(a=student, b=teacher)\n',
            'leaf.py:4 reads the base .base twice .first in line 3.',
        ),
        (
            'from mmengine.config import read_base\nwith read_base():\n    from .none import *\nmodel = dict()\n',
            'does not load as a config',
        ),
        (
            'from mmengine.config import read_base\nwith read_base():\n    from .base import *\n'
            'from no_such_plugin.heads import Head\nmodel.head = dict(type=Head)\n',
            "No module named 'no_such_plugin': is its package installed, or its folder on PYTHONPATH.$",
        ),
    ],
)
def test_traps_and_non_configs_are_errors(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_config(_write(tmp_path, base=BASE, leaf=text))


@pytest.mark.parametrize('line', ['steps[1].update(x=2)', 'del steps[0]'])
def test_a_step_by_its_number_is_an_error_that_names_the_way(tmp_path, line):
    base = "model = dict(type='A')\ntrain_pipeline = dict(load=dict(type='B'), pack=dict(type='C', x=1))\n"
    leaf = 'from mmengine.config import read_base\nwith read_base():\n    from .base import *\nsteps = train_pipeline\n'
    with pytest.raises(InputError, match='steps of a pipeline have names, not numbers: see docs/configs.md'):
        load_config(_write(tmp_path, base=base, leaf=leaf + line + '\n'))


def test_a_trap_in_a_base_is_found(tmp_path):
    leaf = 'from mmengine.config import read_base\nwith read_base():\n    from .middle import *\n'
    with pytest.raises(InputError, match='middle.py:1 sets _base_'):
        load_config(_write(tmp_path, base=BASE, middle="_base_ = 'base.py'\n" + BASE, leaf=leaf))


def test_missing_or_binary_config(tmp_path):
    with pytest.raises(InputError, match='does not exist'):
        load_config(tmp_path / 'none.py')
    (tmp_path / 'a.pth').write_bytes(b'\x80\x02')
    with pytest.raises(InputError, match='is not a config'):
        load_config(tmp_path / 'a.pth')
    (tmp_path / 'a.py').write_bytes(b'\x80\x02\xff\x00')
    with pytest.raises(InputError, match='is not a config'):
        load_config(tmp_path / 'a.py')


@pytest.mark.parametrize('name', ['fast_bev_tiny_96x352_9e_sim', 'fast_bev_tiny_96x352_9e_sim.py'])
def test_a_shipped_config_is_found_by_its_name_from_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == CONFIGS / 'fast_bev' / 'fast_bev_tiny_96x352_9e_sim.py'
    (tmp_path / name).write_text(BASE)
    assert find_config(name) == Path(name)


def test_names_of_shipped_configs_are_unique():
    names = [file.stem for file in CONFIGS.glob('*/*.py') if file.parent.name not in ('_base_', 'experiments')]
    assert len(names) > 50 and len(set(names)) == len(names)


@pytest.mark.parametrize(
    'name, message',
    [
        ('fast_bev_tiny_96x352_9e_sin', 'does not exist: did you mean fast_bev_tiny_96x352_9e_sim or fast_bev'),
        ('configs/second/second_secfpn_80_kitti.py', 'does not exist: did you mean second_secfpn_80e_kitti or'),
        ('second_secfpn_4x_80e_kitti', 'it is called second_secfpn_c4_80e_kitti now'),
        ('runtime', 'the name of a shipped one, such as fast_bev_tiny_96x352_9e_sim or point_pillars'),
        ('fast_bev_m9', 'did you mean fast_bev_m0_r18_256x704_'),
        ('fast_bev_m4', 'did you mean fast_bev_m4_r50_320x880_'),
        ('mine/one.py', r'mine/one\.py does not exist: did you mean mine/ones\.py'),
        ('no/fast_bev_tiny_96x352_9e_sim.py', 'did you mean fast_bev_tiny_96x352_9e_sim or'),
    ],
)
def test_an_unknown_name_of_a_config_gets_the_nearest_ones(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'ones.py').write_text(BASE)
    with pytest.raises(InputError, match=message):
        load_config(name)


def test_a_similar_config_is_named_by_a_path_where_it_can_be_reached(monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    with pytest.raises(InputError, match='did you mean configs/second/second_secfpn_80e_kitti.py or configs/'):
        load_config('second_secfpn_80_kitti')


def test_options_are_literals_or_text():
    parsed = parse_options(['a.b=1e-3', 'c=[1, 2]', 'd=some text', '+e=true', 'f=x=y'])
    assert parsed == {'a.b': 1e-3, 'c': [1, 2], 'd': 'some text', '+e': True, 'f': 'x=y'}
    with pytest.raises(InputError, match='expected key=value'):
        parse_options(['a'])


def _steps(config):
    return [(step.type, step.get('size')) for step in config.loader.dataset.pipeline]


STEPS = (
    "size, rows = 4, 2\nmodel = dict(type='A', cells=size * rows)\n"
    "steps = dict(load=dict(type='Load'), resize=dict(type='Resize', size=size), pack=dict(type='Pack'))\n"
    "loader = dict(dataset=dict(pipeline=steps))\ntta_pipeline = dict(views=dict(type='Views', transforms=dict(\n"
    "    flips=[dict(type='Flip')], pack=[steps['pack']])))\ndel steps\n"
)
READ = 'from mmengine.config import read_base\n{above}with read_base():\n    from .{base} import *\n{below}'


def test_what_stands_above_the_bases_is_what_they_compute_from(tmp_path):
    middle = READ.format(above='rows = 3\nsize = rows * 2\n', base='base', below='late = size\n')
    leaf = READ.format(above='rows = 5\n', base='middle', below='')
    path = _write(tmp_path, base=STEPS, middle=middle, leaf=leaf)
    config = load_config(tmp_path / 'middle.py')
    assert (config.model.cells, config.late, _steps(config)[1]) == (18, 6, ('Resize', 6))
    # The size of the middle file follows from the rows of the leaf, and both from an option.
    config = load_config(path)
    assert (config.model.cells, config.late, _steps(config)[1]) == (50, 10, ('Resize', 10))
    assert load_config(path, {'rows': 1}).model.cells == 2
    assert load_config(path, {'size': 7}).model.cells == 35
    # What one config sets is nothing to the next.
    assert load_config(tmp_path / 'base.py').model.cells == 8


def test_named_steps_are_changed_added_and_removed_by_name(tmp_path):
    below = (
        "steps = loader.dataset.pipeline\nsteps.resize.size = 9\ndel steps['load']\n"
        "steps.update(shuffle=dict(type='Shuffle'), pack=steps.pop('pack'))\ndel steps\n"
    )
    config = load_config(_write(tmp_path, base=STEPS, leaf=READ.format(above='', base='base', below=below)))
    assert _steps(config) == [('Resize', 9), ('Shuffle', None), ('Pack', None)]
    assert isinstance(config.loader.dataset.pipeline, list)
    (views,) = config.tta_pipeline
    assert [[step.type for step in view] for view in views.transforms] == [['Flip'], ['Pack']]


@pytest.mark.parametrize(
    'above, message',
    [
        ('sise = 3\n', r'leaf.py sets sise above `with read_base\(\)`.*no base has it: did you mean size'),
        ('size = model.cells\n', "leaf.py: name 'model' is not defined: settings above"),
    ],
)
def test_a_setting_that_no_base_would_take_is_an_error(tmp_path, above, message):
    with pytest.raises(InputError, match=message):
        load_config(_write(tmp_path, base=STEPS, leaf=READ.format(above=above, base='base', below='')))


@pytest.mark.parametrize('old', ['configs/lidar_det/{}.py', '{}', '/elsewhere/{}.py'])
def test_the_error_for_an_old_name_has_the_new_one(old):
    new = 'configs/point_pillars/point_pillars_tiny_c4_10e_kitti_sim.py'
    with pytest.raises(InputError, match=f'does not exist: it is called {new} now'):
        load_config(old.format('point_pillars_tiny_4x_10e_kitti_sim'))


def test_a_base_of_an_old_name_has_the_new_one(tmp_path):
    text = READ.format(above='', base='second_secfpn_16x_80e_kitti', below='')
    with pytest.raises(InputError, match='reads the base .*, which is called .*/second_secfpn_c16_80e_kitti.py'):
        load_config(_write(tmp_path, leaf=text))


def test_new_names_exist_and_are_those_of_the_changelog():
    rows = re.findall(r'\| `(\w+/\w+)` \| `(\w+/\w+)` \|', (CONFIGS.parent / 'CHANGELOG.md').read_text())
    assert len(rows) > 50
    for old, new in rows:
        assert renamed_config(f'configs/{old}.py') == f'configs/{new}.py'
        assert (CONFIGS / f'{new}.py').is_file() and not (CONFIGS / f'{old}.py').is_file()


def test_hooks_of_two_bases_are_not_lost(tmp_path):
    hooks = "custom_hooks = [dict(type='{}')]\n"
    _write(tmp_path, one=BASE + hooks.format('Fade'), two=hooks.format('Average'), middle=READ.format(
        above='', base='two', below=''))  # fmt: skip
    both = READ.format(above='', base='one', below='    from .middle import *\n{}')
    with pytest.raises(InputError, match='leaf.py:4: the bases .one and .middle both set custom_hooks'):
        load_config(_write(tmp_path, leaf=both.format('')))
    own = both.format("custom_hooks = [dict(type='Fade'), *custom_hooks]\n")
    assert [hook.type for hook in load_config(_write(tmp_path, leaf=own)).custom_hooks] == ['Fade', 'Average']
