"""Crowd detectors as whole: they learn a frame, and the commands' paths give the maps of the plain network."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from crowd_parts import BASES, RANGE_M, batch_of, people_boxes, sample_of, tiny_model, tiny_settings
from mmengine.config import Config
from torch import nn

from perception3d.checks import InputError
from perception3d.distill.nested import tensors_of
from perception3d.export.onnx_file import write_onnx
from perception3d.models.crowd.head import DensityHeatmapHead
from perception3d.models.crowd.maps import CrowdMaps
from perception3d.models.crowd.pictures import NAMES
from perception3d.models.inference.acceleration import accelerate
from perception3d.registry import MODELS
from perception3d.structures.expected_data import expected_data
from perception3d.structures.export_spec import export_spec
from perception3d.structures.response_map import response_map, response_tap

_STEPS = 40


def _varied(model):
    """Gives norms statistics and heads weights that matter."""
    torch.manual_seed(1)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(std=0.3), part.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(part.bias, std=0.2)
        elif isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    return model.eval()


@pytest.fixture(scope='module')
def frame():
    """Nine people, two of them 0.5 m apart, and one who is ignored."""
    torch.manual_seed(0)
    boxes = people_boxes(10, 3)
    places = torch.cartesian_prod(torch.tensor([1.2, 3.6, 6.0]), torch.tensor([-3.0, 0.0, 3.0]))
    boxes[:9, :2] = places + torch.rand(9, 2) * 0.4
    boxes[9, :2] = boxes[0, :2] + torch.tensor([0.5, 0.0])
    labels = torch.zeros(10, dtype=torch.long)
    labels[8] = -1
    return sample_of(boxes, labels)


def test_a_detector_learns_one_frame(frame):
    torch.manual_seed(0)
    model = tiny_model().train()
    batch = batch_of(frame)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    first = None
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group['lr'] = 0.01 * min(1, 2 * (1 - step / _STEPS))
        total, log = model.parse_losses(model(**model.data_preprocessor(copy.deepcopy(batch), True), mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        first = first or {key: float(value.detach()) for key, value in log.items()}
    assert float(total.detach()) < 0.2 * first['loss'] and all(p.grad is not None for p in model.parameters())
    # With statistics of the batch, which this short a training does not average.
    with torch.no_grad():
        (found,) = model(**model.data_preprocessor(copy.deepcopy(batch), True), mode='predict')
    instances = found.pred_instances_3d[found.pred_instances_3d.scores_3d > 0.3]
    truth = frame.gt_instances_3d
    known = truth.bboxes_3d.tensor[truth.labels_3d == 0]
    distance = torch.cdist(known[:, :2], instances.bboxes_3d.tensor[:, :2])
    assert distance.min(1).values.max() < 0.25, distance
    # One box for each person, and perhaps one for the person who is ignored.
    assert len(known) <= len(instances) <= len(known) + 1
    assert (instances.bboxes_3d.tensor[distance.argmin(1), 3:6] - known[:, 3:6]).abs().max() < 0.3


def test_every_switch_has_its_maps_and_losses(frame):
    batch = batch_of(frame)
    for parts, maps, losses in (
        (dict(aggregation='mean', density=False, coarse=False), set(), {'level0', 'level1', 'level2'}),
        (dict(aggregation='max', density=False, coarse=False), set(), {'level0', 'level1', 'level2'}),
        (dict(aggregation='single', coarse=False), {'density'}, {'level1', 'level2', 'density'}),
        (dict(aggregation='learned', density=False, coarse=False), {'gates'}, {'level0', 'level1', 'level2'}),
        (
            dict(relation=True, counts=True),
            {'gates', 'density', 'coarse', 'relation', 'counts'},
            {'level0', 'level1', 'level2', 'density', 'gate', 'coarse', 'relation', 'counts'},
        ),
    ):
        torch.manual_seed(0)
        model = tiny_model(parts=parts)
        data = model.data_preprocessor(copy.deepcopy(batch), True)
        found = model(**data, mode='loss')
        assert set(found) == {f'loss_{name}' for name in losses | {'heatmap', 'box'}}
        sum(found.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        output = model.eval()(**data, mode='tensor')
        optional = ('gates', 'density', 'coarse', 'relation', 'counts')
        assert {name for name in optional if getattr(output, name) is not None} == maps
        assert output.heatmap.shape == (1, 1, 32, 32) and [x.shape[2] for x in output.levels] == [32, 16, 8]


def test_levels_of_voxels_train(frame):
    pytest.importorskip('spconv.pytorch')
    torch.manual_seed(0)
    settings = Config.fromfile(BASES / 'dha_voxel.py').model
    span = [*RANGE_M[:2], -4, *RANGE_M[2:], 2]
    settings.data_preprocessor.voxel_layer.point_cloud_range = span
    settings.middle_encoder.sparse_shape = [31, 64, 64]
    settings.bbox_head.range_m = RANGE_M
    model = MODELS.build(settings).train()
    data = model.data_preprocessor(batch_of(frame, people_boxes(3)), True)
    losses = model(**data, mode='loss')
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        maps = model.eval()(**data, mode='tensor')
    assert [x.shape for x in maps.levels] == [(2, 1, n, n) for n in (32, 16, 8)]
    # Row and column of voxels become those of maps: a change of one voxel reaches the cells around it alone.
    voxels = data['inputs']['voxels']
    moved = copy.deepcopy(data)
    moved['inputs']['voxels']['voxels'][0] += 1.0
    with torch.no_grad():
        (first, *_), (other, *_) = (
            model.backbone(
                model.middle_encoder(model.voxel_encoder(v['voxels'], v['num_points'], v['coors']), v['coors'], 2)
            )
            for v in (voxels, moved['inputs']['voxels'])
        )
    changed = torch.nonzero((first != other).any(1))
    near = changed[:, 1:] - voxels['coors'][0, [2, 3]] // 2
    assert len(changed) and (changed[:, 0] == 0).all() and near.abs().max() <= 4


@pytest.mark.parametrize('aggregation', ['mean', 'max', 'learned', 'density'])
def test_levels_are_joined_by_the_formula(aggregation):
    torch.manual_seed(0)
    head = _varied(DensityHeatmapHead(8, RANGE_M, parts=dict(aggregation=aggregation, channels=8)))
    features = [torch.randn(2, 8, n, n) for n in (16, 8, 4)]
    with torch.no_grad():
        maps = head(features)
    up = [nn.functional.interpolate(x, size=(16, 16), mode='bilinear') for x in maps.levels]
    coarse = nn.functional.interpolate(maps.coarse, size=(16, 16), mode='bilinear')
    if maps.gates is None:
        joined = torch.stack(up).mean(0) if aggregation == 'mean' else torch.stack(up).amax(0)
    else:
        assert torch.allclose(maps.gates.sum(1), torch.ones(2, 16, 16)) and maps.gates.std(dim=(2, 3)).min() > 0
        joined = sum(maps.gates[:, k : k + 1] * up[k] for k in range(3))
    assert torch.allclose(maps.heatmap, joined + 0.25 * torch.log(torch.sigmoid(coarse)), atol=1e-5)


def test_training_starts_as_a_detector_of_the_finest_level():
    head = DensityHeatmapHead(8, RANGE_M, parts=dict(channels=8)).eval()
    with torch.no_grad():
        maps = head([torch.randn(1, 8, n, n) for n in (16, 8, 4)])
    share = torch.tensor([2.0, 0.0, 0.0]).softmax(0)
    assert torch.allclose(maps.gates, share.view(1, 3, 1, 1).expand(1, 3, 16, 16))


def _maps_of(model, batch):
    with torch.no_grad():
        return model(**model.data_preprocessor(copy.deepcopy(batch), False), mode='tensor')


@pytest.mark.parametrize('name', ['dha_pillar', 'center_point_pillar_crowd'])
def test_the_fast_path_gives_the_same_maps(name, frame):
    model, batch = _varied(tiny_model(name)), batch_of(frame)
    expected = _maps_of(model, batch)
    fast = _maps_of(accelerate(model), batch)
    assert type(model.backbone).__name__ == 'ActiveBackbone'
    pairs = list(zip(tensors_of(expected), tensors_of(fast), strict=True))
    assert len(pairs) == (8 if name == 'dha_pillar' else 3)
    assert all((a - b).abs().max() < 1e-4 * a.abs().max() for a, b in pairs)


def test_the_onnx_file_of_the_dense_part_equals_torch(tmp_path, frame):
    onnxruntime = pytest.importorskip('onnxruntime')
    model = _varied(tiny_model())
    spec = export_spec(model, None)
    difference = write_onnx(spec, tmp_path / 'net.onnx')
    assert spec.outputs == (
        'heatmap', 'codes', 'levels0', 'levels1', 'levels2', 'gates', 'density', 'coarse',
    ) and difference < 1e-4  # fmt: skip
    canvas = torch.randn(1, 16, 64, 64)
    with torch.no_grad():
        expected: CrowdMaps = model.bbox_head(model.neck(model.backbone(canvas)))
    session = onnxruntime.InferenceSession(str(tmp_path / 'net.onnx'), providers=['CPUExecutionProvider'])
    got = dict(zip(spec.outputs, session.run(None, {'pillars': canvas.numpy()}), strict=True))
    for name in ('heatmap', 'codes', 'gates', 'density'):
        wanted = getattr(expected, name).numpy()
        assert np.abs(got[name] - wanted).max() < 1e-4 * max(1, np.abs(wanted).max()), name
    # A map that two fields name is written once.
    assert export_spec(tiny_model('center_point_pillar_crowd'), None).outputs == ('heatmap', 'codes')


def test_a_detector_says_what_it_expects_and_responds():
    model = tiny_model()
    expected = expected_data(model)
    assert expected.num_classes.value == 1 and expected.range_m.value == [0, -5.12, -4, 7.68, 5.12, 2]
    heat = torch.zeros(1, 32, 32)
    heat[0, 3, 20] = 5.0  # row 3 along y, column 20 along x
    picture = response_map(model, heat)
    assert picture.values.argmax() == 20 * 32 + 3 and picture.range_m == RANGE_M
    assert response_tap(model) == 'bbox_head[0]' and CrowdMaps._fields[0] == 'heatmap'


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_losses_are_float32_under_autocast(dtype, frame):
    torch.manual_seed(0)
    model = tiny_model().train()
    data = model.data_preprocessor(batch_of(frame), True)
    plain = model(**copy.deepcopy(data), mode='loss')
    with torch.autocast('cpu', dtype):
        losses = model(**data, mode='loss')
    for name, value in losses.items():
        assert value.dtype == torch.float32 and value.isfinite(), name
        assert abs(float(value) - float(plain[name])) < 0.1 * max(0.1, float(plain[name])), name
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(parts=dict(aggregation='density', density=False)), 'needs the density map'),
        (dict(parts=dict(levels=1, aggregation='mean')), "one level has 'single'"),
        (dict(parts=dict(aggregation='sum')), 'expected one of single, mean, max'),
        (dict(parts=dict(levels=4)), 'sigmas_m has 3 pairs, parts.levels is 4'),
        (dict(targets=dict(gate_densities=(1, 2))), 'gate_densities has 2 numbers'),
        (dict(targets=dict(kernel='box')), "expected 'density' or 'fixed'"),
        (dict(targets=dict(density='box')), "expected 'gauss' or 'knn'"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        DensityHeatmapHead(8, RANGE_M, **settings)


def test_maps_that_do_not_fit_are_named():
    head = DensityHeatmapHead(8, RANGE_M)
    with pytest.raises(InputError, match='gives 2 maps, but the head has parts.levels=3'):
        head([torch.zeros(1, 8, n, n) for n in (16, 8)])
    with pytest.raises(InputError, match='multiple of the coarsest stride'):
        head([torch.zeros(1, 8, n, n) for n in (15, 8, 4)])
    settings = tiny_settings()
    settings.bbox_head.range_m = [0, -5.12, 7.68, 5.0]
    with pytest.raises(InputError, match=r'bbox_head.range_m .*5.*point_cloud_range'):
        MODELS.build(settings)


def test_maps_are_kept_for_pictures(frame):
    model = _varied(tiny_model())
    model.bbox_head.keep_maps = ('heatmap', 'levels', 'gates', 'density', 'coarse')
    data = model.data_preprocessor(batch_of(frame), False)
    with torch.no_grad():
        maps = model(**copy.deepcopy(data), mode='tensor')
        (found,) = model(**data, mode='predict')
    kept = found.pred_maps
    assert [title.split(':')[0].split(',')[0] for title in kept.titles] == [
        'heatmap', 'heatmap of level 0', 'heatmap of level 1', 'heatmap of level 2',
        'weight of level 0', 'weight of level 1', 'weight of level 2', 'density', 'coarse map of where people are'
    ]  # fmt: skip
    # On a picture x comes first.
    assert np.allclose(kept.values[0], maps.heatmap[0, 0].sigmoid().T, atol=1e-6)
    assert kept.values[3].shape == (8, 8) and kept.range_m == RANGE_M
    assert np.allclose(kept.values[4:7], maps.gates[0].transpose(1, 2), atol=1e-6)
    assert np.allclose(kept.values[7], maps.density[0, 0].T, atol=1e-6)
    assert kept.highs[7] == pytest.approx(max(1, float(maps.density.max())))
    settings = tiny_settings()
    for keep, names in ((True, set(NAMES)), (False, set()), ('gates', {'gates'})):
        settings.bbox_head.keep_maps = keep
        assert set(MODELS.build(settings.bbox_head).keep_maps) == names
    settings.bbox_head.keep_maps = ['heat']
    with pytest.raises(InputError, match='heatmap'):
        MODELS.build(settings.bbox_head)
