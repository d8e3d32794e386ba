from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmdet.models import FPN, ResNet
from mmdet3d.models import Det3DDataPreprocessor
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from tiny_rig import tiny_rig

from perception3d.checks import InputError
from perception3d.models.fast_bev.detector import FastBEV
from perception3d.models.fast_bev.free_anchor_head import FreeAnchorBEVHead
from perception3d.models.fast_bev.necks import M2BEVNeck, PyramidFuse
from perception3d.registry import MODELS

IMAGE_HW = (64, 96)


def tiny_config(frames: int = 1, levels: tuple[int, ...] = (0,), shapes=((20, 20, 2),), **settings) -> dict:
    """A detector of a few thousand parameters."""
    lifted = sum(8 * frames * shape[2] for _, shape in zip(range(max(len(levels), len(shapes))), shapes * 3))
    return dict(
        type=FastBEV,
        data_preprocessor=dict(type=Det3DDataPreprocessor, mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True),
        backbone=dict(type=ResNet, depth=18, base_channels=8, stem_channels=8, norm_eval=True),
        neck=dict(type=FPN, in_channels=[8, 16, 32, 64], out_channels=8, num_outs=4, norm_cfg=dict(type='BN')),
        neck_fuse=dict(type=PyramidFuse, levels=levels, in_channels=8, out_channels=8),
        grids=[dict(range_m=(-50, -50, -4, 50, 50, 2), shape=shape) for shape in shapes],
        neck_3d=dict(type=M2BEVNeck, in_channels=12, out_channels=16, num_layers=1, fuse_channels=lifted),
        bbox_head=dict(type=FreeAnchorBEVHead, in_channels=16, score_thr=0.0, max_candidates=60),
        **settings,
    )


def build(**settings) -> FastBEV:
    torch.manual_seed(0)
    model = MODELS.build(tiny_config(**settings))
    # Scores and boxes that differ from anchor to anchor.
    torch.nn.init.normal_(model.bbox_head.conv_cls.weight, std=0.3)
    return model.eval()


def batch(size: int = 1, frames: int = 1, cameras: int = 3, objects: int = 4, hw=IMAGE_HW) -> tuple[dict, list]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(size, frames * cameras, 3, *hw, generator=generator)
    samples = []
    for i in range(size):
        sample = Det3DDataSample()
        sample.set_metainfo(
            dict(
                img_from_lidar=tiny_rig(frames, cameras, hw),
                num_frames=frames,
                img_paths=[f'{i}-{n}.jpg' for n in range(frames * cameras)],
                box_type_3d=LiDARInstance3DBoxes,
            )
        )
        boxes = torch.rand(objects, 9, generator=generator) * torch.tensor([60, 60, 1, 4, 2, 2, 6, 2, 2])
        boxes[:, :2] -= 30
        boxes[:, 3:6] += 0.5
        sample.gt_instances_3d = InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9), labels_3d=torch.arange(objects) % 10
        )
        samples.append(sample)
    return {'imgs': images}, samples


@pytest.mark.parametrize(
    'settings, style',
    [
        (dict(), 'v1'),
        (dict(levels=(0, 1)), 'v2'),
        (dict(shapes=((20, 20, 2), (10, 10, 2))), 'v3'),
        (dict(levels=(0, 1), shapes=((20, 20, 2), (15, 15, 3))), 'v4'),
    ],
)
def test_every_style_trains_and_predicts(settings, style):
    model = build(**settings)
    assert model.style == style
    inputs, samples = batch(size=2)
    losses = model.train()(inputs, samples, mode='loss')
    sum(losses.values()).backward()
    trained = [p for name, p in model.named_parameters() if p.requires_grad and 'layer4' in name]
    assert trained and all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    found = model.eval()(inputs, samples, mode='predict')
    assert len(found) == 2
    for sample in found:
        instances = sample.pred_instances_3d
        assert instances.bboxes_3d.tensor.shape == (len(instances.scores_3d), 9)
        assert len(instances.scores_3d) > 0
        assert instances.bboxes_3d.tensor.isfinite().all()


@pytest.mark.parametrize('frames, cameras', [(1, 1), (2, 4), (3, 7)])
def test_frames_and_cameras_are_data(frames, cameras):
    model = build(frames=frames)
    inputs, samples = batch(frames=frames, cameras=cameras)
    maps = model(inputs, samples, mode='tensor')
    assert maps[0].shape == (1, 80, 10, 10)


def test_a_batch_equals_its_samples_one_by_one():
    model = build(frames=2)
    inputs, samples = batch(size=2, frames=2)
    with torch.no_grad():
        together = model.extract_feat(inputs, samples)
        alone = [model.extract_feat({'imgs': inputs['imgs'][i : i + 1]}, samples[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_training_works_without_objects_and_under_bfloat16():
    model = build().train()
    inputs, samples = batch(objects=0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(inputs, samples, mode='loss')
    total = sum(losses.values())
    total.backward()
    assert total.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_bev_map_reaches_the_encoder_channels_last():
    model = build(frames=2)
    seen = []
    model.neck_3d.register_forward_pre_hook(lambda module, args: seen.extend(args[0]))
    model(*batch(frames=2), mode='tensor')
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert model.backbone.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_mirrored_images_and_projections_describe_the_same_world(monkeypatch):
    """Voxels read the same picture content in both passes, to the half pixel that rounding shifts when mirrored."""
    model = build(flip_tta=True)
    inputs, samples = batch()
    column = torch.linspace(0, 1, IMAGE_HW[1])
    inputs['imgs'][:] = 1 + column + torch.arange(3)[:, None, None, None] * 10
    pool = torch.nn.AvgPool2d(4)
    monkeypatch.setattr(model, 'extract_images', lambda images: [pool(images).repeat(1, 3, 1, 1)[:, :8]])
    seen, merged = [], []
    model.neck_3d.register_forward_pre_hook(lambda module, args: seen.append(args[0][0].clone()))
    original = model.bbox_head.predict_passes
    monkeypatch.setattr(model.bbox_head, 'predict_passes', lambda b, s: (merged.append(len(b)), original(b, s))[1])
    with torch.no_grad():
        model(inputs, samples, mode='predict')
    plain, mirrored = seen
    both = (plain > 0) & (mirrored > 0)
    assert both.sum() > 0.9 * (plain > 0).sum()
    same_camera = both & ((plain - mirrored).abs() < 5)
    assert same_camera.sum() > 0.95 * both.sum()
    assert (plain - mirrored)[same_camera].abs().max() <= 2 * 4 / IMAGE_HW[1]
    assert merged == [2]


def test_views_made_by_a_pipeline_are_merged():
    model = build()
    inputs, samples = batch()
    single = model(inputs, copy.deepcopy(samples), mode='predict')[0].pred_instances_3d
    merged = model([inputs, inputs], [samples, copy.deepcopy(samples)], mode='predict')
    # The same view twice: suppression leaves what one view finds.
    torch.testing.assert_close(merged[0].pred_instances_3d.scores_3d[:5], single.scores_3d[:5])


def test_cached_features_give_the_same_map_and_compute_each_image_once():
    plain = build(frames=2)
    cached = build(frames=2, cache_features=True)
    cached.load_state_dict(plain.state_dict())
    inputs, samples = batch(size=1, frames=2)
    later = copy.deepcopy(samples)
    later_images = torch.cat([torch.randn(1, 3, 3, *IMAGE_HW), inputs['imgs'][:, :3]], 1)
    paths = [f'later-{n}.jpg' for n in range(3)] + samples[0].metainfo['img_paths'][:3]
    later[0].set_metainfo({'img_paths': paths})
    with torch.no_grad():
        for images, view in ((inputs['imgs'], samples), (later_images, later)):
            expected = plain.extract_feat({'imgs': images}, view)
            torch.testing.assert_close(cached.extract_feat({'imgs': images}, view), expected, rtol=1e-4, atol=1e-5)
    assert cached.feature_cache.computed == 9
    cached.train().eval()
    with torch.no_grad():
        cached.extract_feat(inputs, samples)
    assert cached.feature_cache.computed == 15


def test_what_does_not_fit_is_named():
    model = build(frames=2)
    inputs, samples = batch(frames=2)
    samples[0].set_metainfo({'num_frames': 4})
    with pytest.raises(InputError, match='6 images, 6 projections and 4 frames'):
        model(inputs, samples, mode='tensor')
    bare = Det3DDataSample()
    with pytest.raises(InputError, match='img_from_lidar'):
        model(inputs, [bare], mode='tensor')
    with pytest.raises(InputError, match='batch, frames'):
        model({'imgs': torch.zeros(1, 3, 64, 96)}, samples, mode='tensor')
    with pytest.raises(InputError, match='3 lifted levels do not pair with 2 grids'):
        build(levels=(0, 1, 2), shapes=((20, 20, 2), (10, 10, 2)))


def test_the_padded_part_of_an_image_is_not_lifted():
    model = build()
    inputs, samples = batch()
    padded = torch.nn.functional.pad(inputs['imgs'], (0, 32, 0, 32))
    seen = []
    model.neck_3d.register_forward_pre_hook(lambda module, args: seen.append(args[0][0] != 0))
    with torch.no_grad():
        model(inputs, samples, mode='tensor')
        samples[0].set_metainfo({'img_hw': IMAGE_HW})
        model({'imgs': padded}, samples, mode='tensor')
    assert np.array_equal(seen[0].any(1).numpy(), seen[1].any(1).numpy())
