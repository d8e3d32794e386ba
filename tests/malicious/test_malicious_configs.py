"""Configs in JSON and YAML are data: nothing in them is imported, called or executed. Python configs are code."""

from __future__ import annotations

import json
from pathlib import Path

import payloads
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope
from test_malicious_pickles import refused

from perception3d.apis.config import load_config
from perception3d.checks import InputError
from perception3d.compat.data_configs import read_data_config
from perception3d.registry import MODELS, TRANSFORMS

TINY = Path(__file__).resolve().parents[2] / 'configs' / 'point_pillars' / 'point_pillars_tiny_10e_kitti_sim.py'


def mmengine_load(path: str) -> object:
    """mmengine's reader."""
    import mmengine

    return mmengine.load(path)


def mmengine_config(path: str) -> object:
    """mmengine's own reading of a config, as mmdet's and mmdet3d's functions call it."""
    return Config.fromfile(path)


def annotations(path: str) -> object:
    """A data set of mmengine whose annotations are in YAML."""
    from mmengine.dataset import BaseDataset

    return BaseDataset(ann_file=path)


@pytest.mark.parametrize('name', payloads.YAMLS)
def test_the_payloads_are_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'evil_parts.py').write_text(payloads.MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__('sys').modules, 'evil_parts', raising=False)
    if name in ('module', 'name'):
        import evil_parts  # noqa: F401  (these tags name what is imported already)
    yaml.unsafe_load(payloads.YAMLS[name])
    assert (tmp_path / payloads.MARK).is_dir()


@pytest.mark.parametrize('name', payloads.YAMLS)
@pytest.mark.parametrize('read', [load_config, mmengine_config, mmengine_load, annotations])
def test_tags_of_yaml_are_refused(folder: Path, read, name: str):
    Path('evil.yaml').write_text(f'model:\n  type: X\n  value: {payloads.YAMLS[name]}\n')
    assert 'evil.yaml was refused: line 3' in refused(read, 'evil.yaml')


def test_a_text_of_yaml_is_read_as_a_file(folder: Path):
    text = f'model: {payloads.YAMLS["apply"]}\n'
    assert 'line 1' in refused(Config.fromstring, text, '.yaml')


CONFIGS: dict[str, dict] = {
    'custom_imports': {'custom_imports': {'imports': ['evil_parts']}},
    'custom_imports that may fail': {'custom_imports': {'imports': ['evil_parts'], 'allow_failed_imports': True}},
    'python base': {'_base_': 'evil.py'},
    'python base in a list': {'_base_': ['good.json', './evil.py']},
    'python base of a base': {'_base_': 'with_python_base.json'},
    'custom_imports of a base': {'_base_': 'with_imports.yaml'},
    'base of a package': {'_base_': 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'},
    'itself as base': {'_base_': 'evil_config.json'},
    'dotted type': {'model': {'type': 'evil_parts.make'}},
    'dotted type inside': {'model': {'type': 'VoxelNet', 'neck': [{'type': 'evil_parts.make'}]}},
    'callable of Python': {'model': {'type': 'os.mkdir', 'path': 'ran'}},
    'class of Python': {'model': {'type': 'subprocess.Popen', 'args': 'mkdir ran', 'shell': True}},
    'builtin': {'model': {'type': 'builtins.eval'}},
    'type that is a module': {'model': {'type': 'evil_parts'}},
    'type of torch': {'model': {'type': 'torch.hub.load', 'repo_or_dir': '.', 'source': 'local', 'model': 'x'}},
    'type by its class path': {'model': {'type': 'mmdet3d.models.detectors.VoxelNet'}},
    'type in a foreign scope': {'model': {'type': 'evil_scope.VoxelNet'}},
    'scope of a part': {'model': {'type': 'VoxelNet', '_scope_': 'evil_scope'}},
    'default scope': {'model': {'type': 'VoxelNet'}, 'default_scope': 'evil_scope'},
    'config of a teacher': {'model': {'type': 'VoxelNet', 'teacher_config': 'evil.py'}},
    'substitution': {'model': {'type': 'VoxelNet', 'data': '{{ fileDirname }}/x'}},
    'variable of a base': {'model': {'type': 'VoxelNet', 'data': '{{_base_.model}}'}},
    'environment': {'model': {'type': 'VoxelNet', 'data': '{{$HOME:/x}}'}},
    'type to evaluate': {'model': {'type': 'VoxelNet', 'nms': {'type': "__import__('os').mkdir('ran')"}}},
    'type of a hook': {'model': {'type': 'VoxelNet'}, 'custom_hooks': [{'type': 'evil_parts.make'}]},
    'type of a loop': {'model': {'type': 'VoxelNet'}, 'train_cfg': {'type': 'evil_parts.make'}},
}  # fmt: skip


@pytest.mark.parametrize('suffix', ['.json', '.yaml'])
@pytest.mark.parametrize('read', [load_config, mmengine_config])
@pytest.mark.parametrize('name', CONFIGS)
def test_a_config_in_a_data_format_reaches_no_code(folder: Path, name: str, read, suffix: str):
    Path('good.json').write_text('{"model": {"type": "VoxelNet"}}')
    Path('with_python_base.json').write_text('{"_base_": "evil.py"}')
    Path('with_imports.yaml').write_text('custom_imports: {imports: [evil_parts]}\n')
    content = CONFIGS[name]
    path = f'evil_config{suffix}'
    if name == 'itself as base':
        content = {'_base_': path}
    Path(path).write_text(json.dumps(content) if suffix == '.json' else yaml.safe_dump(content))
    message = refused(read, path)
    assert path in message or 'with_' in message


def test_aliases_without_end_are_refused(folder: Path):
    lines = ['a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]']
    lines += [f'a{n}: &a{n} [{", ".join([f"*a{n - 1}"] * 10)}]' for n in range(1, 9)]
    Path('bomb.yaml').write_text('\n'.join([*lines, 'model: {type: VoxelNet}']))
    Path('loop.yaml').write_text('model: &m {type: VoxelNet, child: *m}\n')
    assert 'more than' in refused(load_config, 'bomb.yaml')
    assert 'part of itself' in refused(load_config, 'loop.yaml')


def test_names_in_other_places_than_type_import_nothing(folder: Path):
    from mmengine.registry import FUNCTIONS, OPTIM_WRAPPER_CONSTRUCTORS

    content = {
        'model': {'type': 'VoxelNet'},
        'optim_wrapper': {'constructor': 'evil_parts.make'},
        'collate': ['evil_scope.make', 'evil_parts'],
    }
    Path('config.json').write_text(json.dumps(content))
    config = load_config('config.json')
    with pytest.raises(KeyError, match=r'evil_parts\.make is not in the .* registry'):
        OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type=config.optim_wrapper.constructor))
    assert FUNCTIONS.get(config.collate[0]) is None and FUNCTIONS.get(config.collate[1]) is None


CALL = "__import__('os').mkdir('ran')"


def test_upstream_parts_evaluate_no_text_of_a_config(folder: Path):
    from mmcv.cnn.rfsearch.search import RFSearchHook
    from mmcv.ops import batched_nms
    from mmdet.models.task_modules.tracking import CameraMotionCompensation

    boxes, scores = torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1)
    message = refused(batched_nms, boxes, scores, torch.zeros(1), dict(type=CALL, iou_threshold=0.5))
    assert 'is not a name in mmcv.ops.nms' in message
    assert len(batched_nms(boxes, scores, torch.zeros(1), dict(type='nms', iou_threshold=0.5))[1]) == 1
    load = dict(type='LoadAnnotations3D', with_seg_3d=True)
    assert 'np.int64' in refused(TRANSFORMS.build, dict(load, seg_3d_dtype=CALL))
    assert TRANSFORMS.build(dict(load, seg_3d_dtype='np.uint8')).seg_3d_dtype.__name__ == 'uint8'
    refused(CameraMotionCompensation, CALL)
    assert CameraMotionCompensation('cv2.MOTION_EUCLIDEAN').warp_mode == 1
    hook = RFSearchHook.__new__(RFSearchHook)
    hook.config, hook.verbose = {'search': {'skip_layer': []}}, False
    refused(hook.wrap_model, torch.nn.Sequential(torch.nn.ReLU()), CALL)


def plain(value: object) -> object:
    """A config with the names of registered parts in place of classes; those of mmdet have its scope."""
    if isinstance(value, dict):
        return {key: _name(item) if key == 'type' else plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _name(path: str) -> str:
    return ('mmdet.' if path.startswith('mmdet.') else '') + path.rpartition('.')[2]


@pytest.mark.parametrize('suffix', ['.json', '.yaml'])
def test_a_config_in_a_data_format_builds_the_same_model(folder: Path, suffix: str):
    content = plain(load_config(TINY).to_dict())
    head = content['model'].pop('bbox_head')
    dump = json.dumps if suffix == '.json' else yaml.safe_dump
    Path(f'base{suffix}').write_text(dump(content))
    Path(f'leaf{suffix}').write_text(dump({'_base_': f'base{suffix}', 'model': {'bbox_head': head}}))
    config = load_config(f'leaf{suffix}', {'model.bbox_head.num_classes': 3})
    assert config.default_scope == 'mmdet3d' and plain(config.to_dict())['model']['bbox_head'] == head
    init_default_scope('mmdet3d')
    from_yaml, from_python = MODELS.build(config.model), MODELS.build(load_config(TINY).model)
    assert type(from_yaml) is type(from_python) and from_yaml.state_dict().keys() == from_python.state_dict().keys()


def test_a_python_config_is_code(folder: Path):
    # As documented: whoever loads a Python config runs it.
    Path('code.py').write_text("model = dict(type='VoxelNet')\nvalue = len('four')\n")
    assert load_config('code.py').value == 4
    with pytest.raises(InputError, match='does not load as a config'):
        load_config_of_text("model = dict(type='X')\nraise RuntimeError('it ran')\n")


def load_config_of_text(text: str) -> Config:
    """Loads a Python config of this text."""
    Path('other.py').write_text(text)
    return load_config('other.py')


def test_read_data_config_says_what_to_do(folder: Path):
    Path('a.json').write_text('{"model": {"type": "VoxelNett"}}')
    message = refused(read_data_config, 'a.json')
    assert "model.type is 'VoxelNett', which is not registered" in message and 'did you mean VoxelNet' in message
