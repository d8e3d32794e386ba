"""Painted points: against a slow projection of each point, without images, and learned."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from crowd_parts import cloud_of, people_boxes, sample_of, tiny_settings
from mmdet.models.backbones import ResNet
from mmdet.models.necks import FPN
from mmdet3d.structures.points import LiDARPoints
from torch import nn

from perception3d.checks import InputError
from perception3d.datasets.transforms.point_painting import AddImagePixels
from perception3d.export.onnx_file import write_onnx
from perception3d.files import write_image
from perception3d.models.crowd.painting import PaintedVoxelNet, features_at
from perception3d.models.inference.acceleration import accelerate
from perception3d.registry import MODELS
from perception3d.structures.export_spec import export_spec

_STORED_HW, _FINAL_HW = (36, 64), (18, 32)
IMG_FROM_CAM = np.array([[40.0, 0, 32, 0], [0, 40, 18, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
# x forward, y left, z up to x right, y down, z forward.
CAM_FROM_LIDAR = np.array([[0.0, -1, 0, 0.05], [0, 0, -1, -0.1], [1, 0, 0, -0.07], [0, 0, 0, 1]])
_CHANNELS = 4


@pytest.fixture(scope='module')
def image_path(tmp_path_factory):
    path = tmp_path_factory.mktemp('left') / 'a.png'
    write_image(path, np.random.default_rng(0).integers(0, 255, (*_STORED_HW, 3)).astype(np.uint8))
    return str(path)


def painted_model():
    settings = tiny_settings('dha_pillar')
    settings.type = PaintedVoxelNet
    settings.data_preprocessor.update(mean=[120.0] * 3, std=[60.0] * 3, pad_size_divisor=8)
    settings.voxel_encoder.in_channels = 4 + _CHANNELS + 1
    settings.image_backbone = dict(
        type=ResNet, depth=18, base_channels=8, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1)
    )
    settings.image_neck = dict(type=FPN, in_channels=[8, 16], out_channels=_CHANNELS, num_outs=2)
    settings.image_channels = _CHANNELS
    return MODELS.build(settings)


def frame_of(path, seed=3):
    """What a data set gives the step: a cloud and one image; some people are beside the image."""
    boxes = people_boxes(8, seed)
    cloud = cloud_of(boxes, seed)
    results = dict(
        points=LiDARPoints(cloud, points_dim=4),
        img_paths=[path],
        stored_hw=[_STORED_HW],
        stored_from_cam=IMG_FROM_CAM[None],
        cam_from_lidar=CAM_FROM_LIDAR[None],
    )
    return results, boxes


def batch_of_frames(*frames):
    samples = [sample_of(boxes) for _, boxes in frames]
    images = [torch.from_numpy(results['img']).permute(2, 0, 1) for results, _ in frames]
    return dict(
        inputs=dict(points=[results['points'].tensor for results, _ in frames], img=images), data_samples=samples
    )


@pytest.fixture
def batch(image_path):
    """A frame with its image, and one without."""
    frames = [frame_of(image_path), frame_of('', 4)]
    for results, _ in frames:
        AddImagePixels(_FINAL_HW).transform(results)
    return batch_of_frames(*frames)


def _read_between(maps, u, v, stride):
    """Bilinear value (C,) of a map (C, h, w) at the pixel, cell middles at (k + 0.5) * stride; the border goes on."""
    x, y = u / stride - 0.5, v / stride - 0.5
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    value = 0
    for row, column, share in (
        (y0, x0, (1 - (y - y0)) * (1 - (x - x0))),
        (y0, x0 + 1, (1 - (y - y0)) * (x - x0)),
        (y0 + 1, x0, (y - y0) * (1 - (x - x0))),
        (y0 + 1, x0 + 1, (y - y0) * (x - x0)),
    ):
        row, column = min(max(row, 0), maps.shape[1] - 1), min(max(column, 0), maps.shape[2] - 1)
        value = value + share * maps[:, row, column]
    return value


def _slow_pixel(point):
    """Pixel of the network's image of a point, and whether it is seen."""
    cam = CAM_FROM_LIDAR[:3, :3] @ np.float64(point[:3]) + CAM_FROM_LIDAR[:3, 3]
    if cam[2] <= 0:
        return 0, 0, False
    u, v = ((IMG_FROM_CAM[:3, :3] @ cam)[:2] / cam[2]) * (_FINAL_HW[1] / _STORED_HW[1])
    return u, v, 0 <= u < _FINAL_HW[1] and 0 <= v < _FINAL_HW[0]


def test_points_are_painted_as_by_a_slow_projection(batch):
    torch.manual_seed(0)
    model = painted_model().eval()
    # Augmentation moves the points and not their pixels.
    plain = copy.deepcopy(batch)
    for cloud in batch['inputs']['points']:
        cloud[:, 1] *= -1
    data = model.data_preprocessor(batch, False)['inputs']
    voxels = data['voxels']
    with torch.no_grad():
        maps = model.image_neck(model.image_backbone(data['imgs']))[0]
        rows = model.painted(voxels, data['imgs'])
    assert rows.shape[2] == 4 + _CHANNELS + 1 and data['imgs'].shape[2:] == (24, 32)
    stride = data['imgs'].shape[3] / maps.shape[3]
    stored = {tuple(point[:4].tolist()) for point in plain['inputs']['points'][0]}
    seen = 0
    for voxel, count, coor in zip(rows, voxels['num_points'], voxels['coors']):
        assert not voxel[count:].any()
        for row in voxel[:count]:
            point = row[:4] * torch.tensor([1.0, -1.0, 1.0, 1.0])
            u, v, is_seen = _slow_pixel(point.numpy())
            if coor[0] == 1 or not is_seen:
                assert not row[4:].any()
                continue
            assert tuple(point.tolist()) in stored
            expected = _read_between(maps[0], u, v, stride)
            assert row[-1] == 1 and torch.allclose(row[4:-1], expected, atol=1e-4), (u, v)
            seen += 1
    assert seen > 100


def test_a_corner_is_read_at_the_border():
    maps = torch.arange(6.0).view(1, 2, 3)
    found = features_at(maps, torch.tensor([[0.0, 0.0], [11.9, 7.9], [6.0, 2.0]]), (8, 12))
    assert found.flatten().tolist() == pytest.approx([0.0, 5.0, 1.0])


def test_painted_points_are_learned_with_and_without_images(batch):
    torch.manual_seed(0)
    model = painted_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    totals = []
    for step in range(20):
        for group in optimizer.param_groups:
            group['lr'] = 0.01 * min(1, 2 * (1 - step / 20))
        data = model.data_preprocessor(copy.deepcopy(batch), True)
        total, _ = model.parse_losses(model(**data, mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.35 * totals[0]
    grads = {name: p.grad for name, p in model.named_parameters()}
    # The coarser maps of the image's neck are not read.
    assert {name for name, grad in grads.items() if grad is None} <= {
        'image_neck.fpn_convs.1.conv.weight', 'image_neck.fpn_convs.1.conv.bias',
    }  # fmt: skip
    assert grads['image_backbone.conv1.weight'].abs().sum() > 0


def test_clouds_without_images_do_not_run_the_image_network(batch):
    torch.manual_seed(0)
    model = painted_model().eval()
    alone = {
        key: {k: v[1:] for k, v in value.items()} if key == 'inputs' else value[1:] for key, value in batch.items()
    }
    calls = []
    model.image_backbone.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        first = model(**model.data_preprocessor(copy.deepcopy(alone), False), mode='tensor')
        assert not calls
        both = model(**model.data_preprocessor(copy.deepcopy(batch), False), mode='tensor')
        assert calls and torch.allclose(first.heatmap[0], both.heatmap[1], atol=1e-5)
        fast = accelerate(model)(**model.data_preprocessor(copy.deepcopy(batch), False), mode='tensor')
    assert (both.heatmap - fast.heatmap).abs().max() < 1e-4 * both.heatmap.abs().max()


def test_a_missing_or_dropped_image_gives_no_seen_point(image_path, tmp_path):
    results, _ = frame_of(image_path)
    for path in ('', str(tmp_path / 'none.png')):
        found = AddImagePixels(_FINAL_HW).transform({**results, 'img_paths': [path]})
        assert not found['points'].tensor[:, 4:].any() and found['img'].shape == (*_FINAL_HW, 3)
    without = {'points': results['points']}
    assert AddImagePixels(_FINAL_HW).transform(without)['points'].tensor.shape[1] == 7
    np.random.seed(0)
    step = AddImagePixels(_FINAL_HW, drop=0.2)
    seen = [bool(step.transform(dict(results))['points'].tensor[:, 6].any()) for _ in range(200)]
    assert 20 <= seen.count(False) <= 60
    with pytest.raises(InputError, match='drop 1'):
        AddImagePixels(_FINAL_HW, drop=1.0)


def test_a_batch_without_pixels_is_named(batch):
    model = painted_model()
    data = model.data_preprocessor(batch, False)['inputs']
    with pytest.raises(InputError, match='AddImagePixels'):
        model.extract_feat({**data, 'imgs': None})
    assert isinstance(model.image_neck, nn.Module)


def test_the_dense_part_is_exported_without_the_image(tmp_path):
    pytest.importorskip('onnxruntime')
    spec = export_spec(painted_model(), None)
    assert write_onnx(spec, tmp_path / 'net.onnx') < 1e-4
    assert spec.outputs[:2] == ('heatmap', 'codes') and spec.before.startswith('image to features, which are added')
