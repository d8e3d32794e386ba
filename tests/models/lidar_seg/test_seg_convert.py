"""Released weights in our Cylinder3D: the numbers that spconv 1 computes with index pairs that convolutions share."""

from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

import pytest
import torch
from seg_parts import cloud, partition, segmentor
from shipped import config_path
from spconv1 import released_forward, released_state

from perception3d.apis.config import load_config
from perception3d.apis.weights import convert_weights
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.models.lidar_seg.convert import guess_kind, our_name
from perception3d.models.lidar_seg.voxels import voxelise
from perception3d.registry import MODELS, TASK_UTILS

SMALL = dict(width=2, point_channels=8, compressed_channels=3)


@pytest.fixture(scope='module')
def released():
    return released_state()


def _model(**settings):
    losses = dict(ce=dict(type='WeightedCrossEntropy', of='voxel'))
    return segmentor(losses, SMALL | dict(refine=False, legacy_shared_indices=True) | settings).double().eval()


def test_logits_are_those_of_spconv_1(released):
    model = _model()
    result = model.convert_weights({f'module.{name}': value for name, value in released.items()})
    assert not (result.unused or result.missing or result.mismatched) and result.kind == 'cylinder3d'
    model.load_state_dict(result.state)
    voxels = voxelise(TASK_UTILS.build(partition()), [cloud(120).double()])
    with torch.no_grad():
        wanted = released_forward(released, voxels)
        got = model.net(voxels).voxel_logits
        # The head has no output for ignored points, which is their first.
        assert wanted.std() > 0.1 and torch.allclose(got, wanted[:, 1:], atol=1e-9)
        # With keys of their own, the same convolutions compute something else.
        asymmetric = _model(legacy_shared_indices=False)
        assert asymmetric.net.up[0].after[2].conv.weight.shape[1:4] == (3, 3, 3)
        assert asymmetric.net.context.first[1].conv.kernel_size == [3, 1, 3]


def test_a_tensor_without_a_match_is_an_error_that_names_it(released):
    with pytest.raises(InputError, match='legacy_shared_indices=True'):
        _model(legacy_shared_indices=False).convert_weights(released)
    with pytest.raises(InputError, match='refine=False'):
        _model(refine=True).convert_weights(released)
    extra = released | {'cylinder_3d_spconv_seg.resBlock6.conv1.weight': torch.zeros(1)}
    with pytest.raises(InputError, match=r'1 tensors do not match \(cylinder_3d_spconv_seg\.resBlock6\.conv1\.weight'):
        _model().convert_weights(extra)
    fewer = dict(released)
    del fewer['cylinder_3d_spconv_seg.upBlock1.conv2.weight']
    with pytest.raises(InputError, match=r'up\.1\.after\.1\.conv\.weight is missing'):
        _model().convert_weights(fewer)
    with pytest.raises(InputError, match=r'context\.first\.0\.conv\.weight is \(1, 3, 3, 3, 2\), expected \(4, 1, 3'):
        _model(width=4).convert_weights(released)
    with pytest.raises(InputError, match=r'voxel_head\.conv\.weight is \(3, 3, 3, 8, 5\)'):
        _model(num_classes=3).convert_weights(released)
    with pytest.raises(InputError, match=r'not a checkpoint .* --kind cylinder3d\|mmdet3d'):
        _model().convert_weights({'a.weight': torch.zeros(1)})
    with pytest.raises(InputError, match="did you mean 'mmdet3d'"):
        _model().convert_weights(released, 'mmdet')


def test_mmdet3d_has_the_same_tensors_under_other_names(released):
    theirs = MODELS.build(
        dict(
            type='mmdet3d.Asymm3DSpconv', grid_size=[20, 18, 8], input_channels=3, base_channels=2,
            norm_cfg=dict(type='BN1d', eps=1e-5, momentum=0.1),
        )
    )  # fmt: skip
    names = {f'backbone.{name}' for name in theirs.state_dict() if not name.endswith('num_batches_tracked')}
    names |= {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias', 'voxel_encoder.compression_layers.0.weight'}
    ours = {our_name(name, 'mmdet3d'): name for name in names}
    wanted = {our_name(name, 'cylinder3d'): name for name in released}
    points = {name for name in wanted if name.startswith(('point_mlp', 'compress.0.bias'))}
    assert None not in ours and set(ours) == set(wanted) - points
    vfe = ('pre_norm', 'vfe_layers.0.0', 'vfe_layers.0.1', 'vfe_layers.2.1', 'vfe_layers.3')
    mapped = [our_name(f'voxel_encoder.{name}.weight', 'mmdet3d') for name in vfe]
    assert mapped == [f'point_mlp.{k}.weight' for k in (0, 1, 2, 8, 10)]
    # The same weights under their names give the same result, but for the head, whose last output is the ignored one.
    state = {ours.get(our_name(name, 'cylinder3d'), name): value for name, value in released.items()}
    state = {name: value for name, value in state.items() if name.startswith(('backbone', 'decode_head'))}
    shapes = theirs.state_dict()
    assert all(
        shapes[name.removeprefix('backbone.')].shape == value.shape
        for name, value in state.items()
        if name.startswith('backbone.')
    )
    assert guess_kind(state) == 'mmdet3d'
    with pytest.raises(InputError, match='point_mlp'):
        _model().convert_weights(state)


@pytest.mark.parametrize('classes', [4, 16, 19])
def test_a_checkpoint_with_an_output_for_ignored_points_is_explained(tmp_path, released, classes):
    other, path = _model(num_classes=classes + 1), tmp_path / 'other.pth'
    torch.save({'state_dict': other.state_dict()}, path)
    words = (
        rf'other\.pth .*its head has {classes + 1} outputs .*one of them for ignored points, and the head of this '
        f'config has the {classes} classes alone'
    )
    with pytest.raises(InputError, match=words):
        load_weights(_model(num_classes=classes), path)
    torch.save({'state_dict': released}, path)
    with pytest.raises(
        InputError, match=r'released Cylinder3D code \(spconv 1\): convert it with tools/convert_weights'
    ):
        load_weights(_model(), path)


@pytest.mark.parametrize(
    ('name', 'sizes'),
    [
        ('cylinder3d_w050_480x360x32_3scan_released_semantickitti', dict(width=16, compressed=16, outputs=26)),
        ('cylinder3d_w150_480x360x32_released_semantickitti', dict(width=48, compressed=48, outputs=20)),
    ],
)
def test_shipped_configs_of_released_weights_take_every_tensor(name, sizes):
    """Tensors of these sizes; the files themselves were not at hand."""
    with torch.device('meta'):
        model = MODELS.build(load_config(config_path(name)).model)
    with ExitStack() as patched:
        # Random numbers of a hundred million weights would take seconds.
        for function in ('randn', 'rand'):
            patched.enter_context(mock.patch.object(torch, function, _empty))
        state = released_state(**sizes, points=(9, 256))
    result = model.convert_weights(state)
    assert not (result.unused or result.missing or result.mismatched)


def _empty(*shape, generator=None, **settings):
    return torch.empty(shape, device='meta', **settings)


def test_a_converted_file_loads_as_it_is(tmp_path, released):
    config = tmp_path / 'small.py'
    config.write_text(
        'from perception3d.models.lidar_seg.cylinder3d import Cylinder3D\n'
        'from perception3d.models.lidar_seg.preprocessor import PointSegPreprocessor\n'
        'from perception3d.models.lidar_seg.segmentor import PointSegmentor\n'
        'from perception3d.models.lidar_seg.voxels import CylinderPartition\n'
        'model = dict(\n'
        '    type=PointSegmentor,\n'
        '    data_preprocessor=dict(type=PointSegPreprocessor, partition=dict(type=CylinderPartition)),\n'
        '    net=dict(type=Cylinder3D, num_classes=4, width=2, point_channels=8, compressed_channels=3,\n'
        '             refine=False, legacy_shared_indices=True),\n'
        '    losses=dict(),\n'
        ')\n'
    )
    torch.save(released, tmp_path / 'released.pth')
    text = convert_weights(tmp_path / 'released.pth', config, tmp_path / 'ours.pth')
    assert '(cylinder3d)' in text and 'unused          0' in text and 'missing         0' in text
    model = _model().float()
    load_weights(model, tmp_path / 'ours.pth')
    weight = released['cylinder_3d_spconv_seg.upBlock2.conv3.weight'][0]
    assert torch.equal(model.net.up[2].after[2].conv.weight[:, 0], weight.permute(3, 0, 1, 2).float())
