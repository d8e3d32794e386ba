"""The whole detector: training, prediction, several frames, the ground, a stream that equals the whole computation."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from bev_former_parts import CAMERAS, SHAPE, batch_of, build, images_at, lidar_on_car, metas_at, tiny_config
from mmdet.models import FPN

from perception3d.checks import InputError
from perception3d.models.bev_transformer.streaming import BEVFormerStream
from perception3d.models.fast_bev.center_head import CenterBEVHead
from perception3d.registry import MODELS
from perception3d.structures.export_spec import export_spec


@pytest.mark.parametrize('frame_times', [[[1.0], [2.0]], [[1.0, 0.5, 0.1], [2.0, 1.5, 0.9]]])
def test_training_reaches_every_parameter(frame_times: list[list[float]]) -> None:
    model = build().train()
    losses = model(*batch_of(model, frame_times), mode='loss')
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.isfinite().all())
    ]
    assert not without
    still = {name for name, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0}
    # The bias of keys in self-attention changes nothing, nor do frozen stages.
    assert not [name for name in still if 'self_attention' not in name and 'backbone.layer1' not in name], still


def test_a_training_step_lowers_the_loss() -> None:
    model = build().train()
    inputs, samples = batch_of(model, [[1.0, 0.5]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(8):
        optimizer.zero_grad()
        total = sum(model(inputs, samples, mode='loss').values())
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.9 * totals[0]


def test_predictions_are_boxes() -> None:
    model = build()
    found = model(*batch_of(model, [[1.0], [2.0]]), mode='predict')
    for sample in found:
        instances = sample.pred_instances_3d
        assert instances.bboxes_3d.tensor.shape == (30, 9) and instances.bboxes_3d.tensor.isfinite().all()
        assert (instances.bboxes_3d.tensor[:, 3:6] > 0).all()
        assert (instances.scores_3d.diff() <= 0).all() and (
            (instances.labels_3d >= 0) & (instances.labels_3d < 10)
        ).all()


def test_raw_outputs_are_plain_tensors_and_every_part_can_be_hooked() -> None:
    model = build()
    names = [
        'backbone', 'neck', 'encoder', 'encoder.layers.0', 'encoder.layers.0.temporal_attention',
        'encoder.layers.1.spatial_attention', 'encoder.layers.1.ffn', 'bbox_head', 'bbox_head.layers.0.cross_attention',
    ]  # fmt: skip
    seen = {}
    for name in names:
        model.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: output})
        )
    logits, codes = model(*batch_of(model, [[1.0]]), mode='tensor')
    assert logits.shape == (2, 1, 20, 10) and codes.shape == (2, 1, 20, 10)
    assert list(seen) and set(seen) == set(names)
    assert seen['encoder'].shape == (1, 16, *SHAPE)
    assert seen['encoder.layers.0.temporal_attention'].shape == (1, SHAPE[0] * SHAPE[1], 16)


@torch.no_grad()
def test_a_batch_equals_its_samples_one_by_one() -> None:
    """Samples with other views, other motions and another length of history share a batch."""
    model = build()
    frame_times = [[1.0, 0.5, 0.1], [2.0, 1.5, 1.5], [3.0, 3.0, 3.0]]
    inputs, samples = batch_of(model, frame_times)
    # This sample's cameras look elsewhere, so that they see other and more or fewer pillars.
    turned = np.diag([-1.0, -1.0, 1.0, 1.0])
    turned[1, 3] = 3.0
    samples[1].set_metainfo(dict(img_from_lidar=samples[1].metainfo['img_from_lidar'] @ turned))
    together = model.extract_feat(inputs, samples)
    for i in range(3):
        alone = model.extract_feat({'imgs': inputs['imgs'][i : i + 1]}, samples[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_repeated_frame_is_not_used_as_memory() -> None:
    model = build()
    once = model.extract_feat(*batch_of(model, [[1.0]]))
    torch.testing.assert_close(model.extract_feat(*batch_of(model, [[1.0, 1.0, 1.0]])), once, rtol=1e-4, atol=1e-4)
    short = model.extract_feat(*batch_of(model, [[1.0, 0.5]]))
    torch.testing.assert_close(model.extract_feat(*batch_of(model, [[1.0, 0.5, 0.5]])), short, rtol=1e-4, atol=1e-4)
    assert (short - once).abs().max() > 0.05


def test_past_frames_have_no_gradients_and_do_not_change_statistics() -> None:
    model = build().train()
    inputs, samples = batch_of(model, [[1.0, 0.5, 0.1]])
    modes = {name: module.training for name, module in model.named_modules()}
    seen = []
    model.encoder.register_forward_hook(
        lambda module, args, output: seen.append((module.training, output.requires_grad))
    )
    steps = int(model.backbone.bn1.num_batches_tracked)
    model.extract_feat(inputs, samples)
    assert seen == [(False, False), (False, False), (True, True)]
    assert int(model.backbone.bn1.num_batches_tracked) == steps + int(model.backbone.bn1.training)
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_training_works_without_objects_and_under_bfloat16() -> None:
    model = build().train()
    inputs, samples = batch_of(model, [[1.0, 0.5]], objects=0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(inputs, samples, mode='loss')
    total = sum(losses.values())
    total.backward()
    assert total.dtype == torch.float32 and total.isfinite()
    lost = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not lost
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_another_head_takes_its_place() -> None:
    head = dict(
        type=CenterBEVHead, in_channels=16, hidden_channels=8, range_m=(-16.0, -12.0, 16.0, 12.0), score_thr=0.0
    )
    model = build(bbox_head=head)
    inputs, samples = batch_of(model, [[1.0]])
    losses = model.train()(inputs, samples, mode='loss')
    sum(losses.values()).backward()
    found = model.eval()(inputs, samples, mode='predict')[0].pred_instances_3d
    assert len(found.scores_3d) and found.bboxes_3d.tensor.isfinite().all()


def test_a_raised_lidar_sees_the_same_world() -> None:
    model = build(ground_z_m=-1.8)
    inputs, samples = batch_of(model, [[1.0, 0.5]])
    raised = [copy.deepcopy(sample) for sample in samples]
    lift = np.eye(4)
    lift[2, 3] = 0.4
    for sample in raised:
        # A point of the raised lidar's frame lies 0.4 m lower than it did in the other's.
        metas = sample.metainfo
        sample.set_metainfo(
            dict(
                img_from_lidar=metas['img_from_lidar'] @ lift,
                cam_from_lidar=metas['cam_from_lidar'] @ lift,
                ego_from_lidar=lidar_on_car(2.2),
            )
        )
        sample.gt_instances_3d.bboxes_3d.tensor[:, 2] -= 0.4
    with torch.no_grad():
        losses = [model(inputs, group, mode='loss') for group in (samples, raised)]
        found = [model(inputs, group, mode='predict')[0].pred_instances_3d for group in (samples, raised)]
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value, rtol=1e-3, atol=1e-4)
    expected = found[0].bboxes_3d.tensor.clone()
    expected[:, 2] -= 0.4
    torch.testing.assert_close(found[1].bboxes_3d.tensor, expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize('ground_z_m', [None, -1.8])
def test_a_stream_finds_what_the_whole_computation_finds(ground_z_m: float | None) -> None:
    model = build(ground_z_m=ground_z_m)
    stream = BEVFormerStream(model)
    bevs = []
    stream.model.encoder.register_forward_hook(lambda module, args, output: bevs.append(output))
    times = [0.1, 0.5, 1.0]
    results = [stream.step(images_at(t), metas_at([t])) for t in times]
    for count in (1, 2, 3):
        inputs, samples = batch_of(model, [times[:count][::-1]])
        torch.testing.assert_close(bevs[count - 1], model.extract_feat(inputs, samples), rtol=1e-4, atol=1e-4)
        found = model(inputs, samples, mode='predict')[0].pred_instances_3d
        torch.testing.assert_close(results[count - 1].scores_3d, found.scores_3d, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(results[count - 1].bboxes_3d.tensor, found.bboxes_3d.tensor, rtol=1e-4, atol=1e-4)
    assert (bevs[2] - model.extract_feat(*batch_of(model, [[1.0]]))).abs().max() > 0.05


@torch.no_grad()
def test_a_new_scene_starts_without_a_past() -> None:
    model = build()
    stream = BEVFormerStream(model)
    stream.step(images_at(0.5), metas_at([0.5], 'a'))
    changed = stream.step(images_at(0.1), metas_at([0.1], 'b'))
    stream.reset()
    fresh = stream.step(images_at(0.1), metas_at([0.1], 'b'))
    assert torch.equal(changed.scores_3d, fresh.scores_3d)


def test_what_breaks_a_stream_is_named() -> None:
    stream = BEVFormerStream(build())
    stream.step(images_at(0.5), metas_at([0.5]))
    with pytest.raises(InputError, match='not later'):
        stream.step(images_at(0.5), metas_at([0.5]))
    poseless = metas_at([0.9])
    del poseless['global_from_ego']
    with pytest.raises(InputError, match='global_from_ego'):
        stream.step(images_at(0.9), poseless)
    with pytest.raises(InputError, match='3 images, 6 projections'):
        stream.step(images_at(0.9), metas_at([0.9, 0.5]))


def test_what_does_not_fit_is_named() -> None:
    model = build()
    inputs, samples = batch_of(model, [[1.0, 0.5]])
    samples[0].set_metainfo({'num_frames': 4})
    with pytest.raises(InputError, match='6 images, 6 projections and 4 frames'):
        model(inputs, samples, mode='tensor')
    samples[0].set_metainfo({'num_frames': 1})
    with pytest.raises(InputError, match=f'6 cameras, the encoder num_cams={CAMERAS}'):
        model(inputs, samples, mode='tensor')
    with pytest.raises(InputError, match='batch, frames'):
        model({'imgs': torch.zeros(1, 3, 64, 96)}, samples, mode='tensor')
    one_level = build(neck=dict(type=FPN, in_channels=[16, 32], out_channels=16, num_outs=3))
    with pytest.raises(InputError, match='3 levels, the encoder has num_levels=2'):
        one_level(*batch_of(one_level, [[1.0]]), mode='tensor')
    config = tiny_config()
    config['encoder']['num_points'] = 3
    with pytest.raises(InputError, match='multiple of the 2 heights'):
        MODELS.build(config)


def test_the_refusal_to_export_says_why() -> None:
    with pytest.raises(InputError, match='BEVFormer cannot be exported: its views and pillars are selected in each'):
        export_spec(build(), None)
