"""Weights of others: each kind of source, wrong variants, damaged and dangerous files."""

from __future__ import annotations

import importlib.util
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from legacy_head import LegacyHead
from mmdet.models import ResNet
from torch import Tensor

from perception3d.apis.config import load_config
from perception3d.apis.weights import convert_weights
from perception3d.checks import InputError
from perception3d.models.fast_bev.convert import PUBLISHED, describe, variant_name
from perception3d.registry import MODELS

ROOT = Path(__file__).resolve().parents[3]


def config_path(variant: str) -> Path:
    (path,) = sorted((ROOT / 'configs' / 'fast_bev').glob(f'fast_bev_{variant}_*cbgs20e_nuscenes.py'))[-1:]
    return path


def build(variant: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS.build(load_config(config_path(variant)).model).eval()


def released_layout(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint that the released code would have written for these weights."""
    out = OrderedDict()
    for name, value in ours.items():
        value = value.clone()
        if name.startswith('neck_fuse.convs.'):
            _, _, level, leaf = name.split('.')
            name = f'neck_fuse_{level}.{leaf}'
        if name.startswith('bbox_head.conv_reg.'):
            for anchor in range(8):
                rows = value[anchor * 9 : anchor * 9 + 9].clone()
                value[anchor * 9 + 3], value[anchor * 9 + 4] = rows[4], rows[3]
                value[anchor * 9 + 6] = -rows[6]
        out[name] = value
    return out


def save(path: Path, state: dict, wrap: bool = True) -> Path:
    torch.save({'meta': {'epoch': 20, 'CLASSES': ['car']}, 'state_dict': state} if wrap else state, path)
    return path


@pytest.fixture(scope='module')
def m0() -> torch.nn.Module:
    return build('m0')


def test_released_weights_fill_every_tensor_and_mean_the_same(m0: torch.nn.Module, tmp_path: Path) -> None:
    original = {k: v.clone() for k, v in m0.state_dict().items()}
    original['bbox_head.conv_reg.weight'] += torch.randn_like(original['bbox_head.conv_reg.weight']) * 0.05
    released = released_layout(original)
    released['seg_head.conv.weight'] = torch.zeros(3)
    del released['backbone.bn1.num_batches_tracked']
    text = convert_weights(save(tmp_path / 'm0.pth', released), config_path('m0'), tmp_path / 'out.pth')
    assert '(fastbev)' in text and re.search(r'unused +1  seg_head', text) and re.search(r'missing +0', text)
    loaded = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    m0.load_state_dict(loaded)
    for name, value in m0.state_dict().items():
        torch.testing.assert_close(value, original[name])
    bev = torch.randn(1, 192, 10, 8)
    head = {k.removeprefix('bbox_head.'): v for k, v in released.items() if k.startswith('bbox_head.')}
    (legacy, _), (ours, _) = (
        LegacyHead(head, (-50, -50, 50, 50)).boxes(bev, 300)[0],
        m0.bbox_head.decode_outputs(m0.bbox_head(bev)),
    )
    theirs = legacy[:, [0, 1, 2, 4, 3, 5, 7, 8]]
    assert torch.cdist(ours[0][:300, [0, 1, 2, 3, 4, 5, 7, 8]].double(), theirs).min(1).values.max() < 1e-3


@pytest.mark.parametrize('source, target, holds', [('m0', 'm3', 'M0 or M1'), ('m3', 'm2', 'M3'), ('m3', 'm4', 'M3')])
def test_another_variant_is_refused_by_name(source: str, target: str, holds: str, tmp_path: Path) -> None:
    released = save(tmp_path / 'source.pth', released_layout(build(source).state_dict()))
    with pytest.raises(InputError, match=rf'holds {holds}.*tensors of another shape.*choose the config') as caught:
        convert_weights(released, config_path(target), tmp_path / 'out.pth')
    assert re.search(r'[\w.]+ is \(.*\), expected \(.*\)', str(caught.value)) and '\n' not in str(caught.value)
    assert not (tmp_path / 'out.pth').exists()


def test_published_variants_are_distinguished() -> None:
    expected = {
        'm0': 'M0 or M1',
        'm1': 'M0 or M1',
        'm2': 'M2',
        'm3': 'M3',
        'm4': 'M4 or M5',
        'v4': 'R50 multi-scale (v4)',
    }
    for variant, name in expected.items():
        assert variant_name(describe(released_layout(build(variant).state_dict()))) == name
    assert len(set(PUBLISHED.values())) == len(PUBLISHED)


@pytest.mark.parametrize('wrap', [True, False])
def test_imagenet_weights_fill_the_backbone(m0: torch.nn.Module, tmp_path: Path, wrap: bool) -> None:
    state = {name: torch.rand_like(value.float()) for name, value in ResNet(18).state_dict().items()}
    state = {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}
    source = save(tmp_path / 'resnet18.pth', {**state, 'fc.weight': torch.zeros(10, 512)}, wrap)
    text = convert_weights(source, config_path('m0'), tmp_path / 'out.pth')
    assert '(imagenet)' in text and 'fc.weight' in text
    loaded = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    missing, unexpected = m0.load_state_dict(loaded, strict=False)
    assert not unexpected and not any(name.startswith('backbone.') for name in missing)
    torch.testing.assert_close(m0.backbone.layer4[1].conv2.weight, state['layer4.1.conv2.weight'])


def test_only_the_backbone_of_a_nuimages_detector_is_used(m0: torch.nn.Module, tmp_path: Path) -> None:
    state = {f'backbone.{k}': v for k, v in ResNet(18).state_dict().items()}
    state |= {'neck.lateral_convs.0.conv.weight': torch.zeros(256, 64, 1, 1), 'roi_head.x': torch.zeros(1)}
    text = convert_weights(save(tmp_path / 'nuim.pth', state), config_path('m0'), tmp_path / 'out.pth')
    assert '(nuimages)' in text and re.search(r'unused +2', text)
    with pytest.raises(InputError, match='holds ResNet-18, the config is ResNet-34.*same backbone'):
        convert_weights(tmp_path / 'nuim.pth', config_path('m2'), tmp_path / 'other.pth')


def test_bad_sources_are_refused_in_one_line(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple:
            return exec, ("raise SystemExit('the file ran code')",)

    out, config = tmp_path / 'out.pth', config_path('m0')
    out.write_text('earlier result')
    (tmp_path / 'cut.pth').write_bytes(save(tmp_path / 'whole.pth', {'a': torch.zeros(999)}).read_bytes()[:1500])
    (tmp_path / 'code.pth').write_bytes(pickle.dumps({'state_dict': Runs()}))
    save(tmp_path / 'foreign.pth', {'decoder.weight': torch.zeros(2)})
    for name, message in [
        ('none.pth', 'does not exist'),
        ('cut.pth', 'cannot be read.*damaged'),
        ('code.pth', 'was refused.*run code'),
        ('foreign.pth', 'decoder.weight.*--kind'),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            convert_weights(tmp_path / name, config, out)
        assert '\n' not in str(caught.value) and name in str(caught.value)
    with pytest.raises(InputError, match='unknown kind of weights'):
        convert_weights(tmp_path / 'whole.pth', config, out, kind='coco')
    assert out.read_text() == 'earlier result'


def test_the_command_prints_the_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = importlib.util.spec_from_file_location('convert_weights', ROOT / 'tools' / 'convert_weights.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    source = save(tmp_path / 'resnet18.pth', ResNet(18).state_dict(), wrap=False)
    assert tool.main([str(source), '--config', str(config_path('m0')), '--out', str(tmp_path / 'o.pth')]) == 0
    assert 'matched' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        tool.main(['--help'])
    assert 'example:' in capsys.readouterr().out
