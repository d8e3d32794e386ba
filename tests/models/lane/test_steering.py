"""The steering angle of an image, and networks of other tasks: losses, predictions, files, and mimicking them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lane_batches import lane_batch
from mmengine.structures import LabelData, PixelData
from torch import nn

from perception3d.apis.inferencer import describe
from perception3d.checks import InputError
from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.fitnets import FeatureMSE
from perception3d.export.onnx_file import write_onnx
from perception3d.models.lane.pixel_tasks import ClassHead, DepthHead, PixelTaskNet, log_depth_loss, pixel_class_loss
from perception3d.models.lane.preprocessor import LanePreprocessor
from perception3d.models.lane.steering import SteeringRegressor
from perception3d.registry import MODELS
from perception3d.structures.export_spec import export_spec
from perception3d.structures.frame import SensorFrame
from perception3d.structures.sample import SampleStructures, structures_of
from perception3d.visualization.draw import PictureStyle, draw_sample
from perception3d.visualization.palette import class_color
from perception3d.visualization.windows import camera_view

SMALL = dict(data_preprocessor=dict(type=LanePreprocessor), input_hw=(32, 64), base_channels=8)
TASKS = {'classes': dict(type=ClassHead, num_classes=4), 'depth': dict(type=DepthHead)}


def batch():
    data = lane_batch()
    generator = torch.Generator().manual_seed(1)
    for k, sample in enumerate(data['data_samples']):
        sample.gt_steering = LabelData(steering_rad=torch.tensor([0.05 * (k + 1)]))
        classes = torch.randint(0, 4, (1, 32, 64), generator=generator, dtype=torch.uint8)
        classes[:, :4] = 255
        depth_m = 40 * torch.rand(1, 32, 64, generator=generator)
        depth_m[:, :4] = 0
        sample.gt_semantic, sample.gt_depth = PixelData(semantic=classes), PixelData(depth_m=depth_m)
    return data


def steering(seed=0, **settings):
    torch.manual_seed(seed)
    return MODELS.build(dict(type=SteeringRegressor, **SMALL, **settings))


def pixel_net(task, seed=0):
    torch.manual_seed(seed)
    return MODELS.build(dict(type=PixelTaskNet, head=TASKS[task], neck_channels=16, **SMALL))


def losses_of(model, data=None):
    return model(**model.data_preprocessor(data or batch(), True), mode='loss')


def test_the_loss_is_the_squared_error_in_units_of_the_spread():
    model = steering(unit_rad=0.2).eval()
    losses = losses_of(model)
    with torch.no_grad():
        angles = model(**model.data_preprocessor(batch()), mode='tensor')
    wanted = ((angles - torch.tensor([[0.05], [0.1]])) / 0.2).square().mean()
    torch.testing.assert_close(losses['loss_steering'], wanted)
    losses['loss_steering'].backward()
    assert all(p.grad is not None for p in model.parameters())
    samples = model(**model.data_preprocessor(batch()), mode='predict')
    torch.testing.assert_close(torch.stack([s.pred_steering.steering_rad for s in samples]), angles)


def test_the_onnx_file_of_a_steering_angle_is_the_model(tmp_path):
    model = steering().eval()
    spec = export_spec(model, lambda: {})
    assert write_onnx(spec, tmp_path / 'a.onnx') < 1e-4
    image = spec.inputs[0].example
    with torch.no_grad():
        angle = model(**model.data_preprocessor(dict(inputs=dict(img=[image[0]]))), mode='tensor')
        torch.testing.assert_close(spec.network(image)[0], angle, atol=1e-5, rtol=1e-4)


def test_losses_of_pixels_leave_those_without_truth_out():
    classes = torch.tensor([[[0, 2, 255]]])
    logits = torch.tensor([[1.0, 0.0, 3.0], [0.0, 0.0, 5.0], [0.0, 2.0, 9.0]]).view(1, 3, 1, 3).requires_grad_()
    wanted = (math.log(math.e + 2) - 1 + math.log(math.e**2 + 2) - 2) / 2
    loss = pixel_class_loss(logits, classes)
    assert loss.item() == pytest.approx(wanted)
    loss.backward()
    assert not logits.grad[..., 2].any() and logits.grad[..., :2].any()
    with pytest.raises(InputError, match='a pixel has class 2, but the head has 2 .num_classes'):
        pixel_class_loss(logits[:, :2], classes)
    depth_m = torch.tensor([[[1.0, 10.0, 0.0]]])
    predicted = torch.tensor([0.5, 2.0, 7.0]).view(1, 1, 1, 3).requires_grad_()
    loss = log_depth_loss(predicted, depth_m)
    assert loss.item() == pytest.approx((0.5 + math.log(10) - 2.0) / 2)
    loss.backward()
    assert predicted.grad[0, 0, 0].tolist() == [0.5, -0.5, 0.0]
    assert not log_depth_loss(predicted, torch.zeros(1, 1, 3)).any()


@pytest.mark.parametrize('task', TASKS)
def test_a_network_of_another_task_learns_and_predicts_every_pixel(task):
    model = pixel_net(task).train()
    losses_of(model)['loss_pixels'].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    model.eval()
    with torch.no_grad():
        samples = model(**model.data_preprocessor(batch()), mode='predict')
        logits = model(**model.data_preprocessor(batch()), mode='tensor')
    if task == 'depth':
        assert samples[1].pred_depth.depth_m.shape == (1, 32, 64)
        torch.testing.assert_close(samples[1].pred_depth.depth_m, logits[1].exp())
    else:
        assert torch.equal(samples[1].pred_semantic.semantic[0].long(), logits[1].argmax(0))


def mimicking():
    """The steering student with both networks as frozen teachers, through transform layers."""
    links = {
        name: dict(
            student=student,
            teacher=f'{name}:{tap}',
            adapter=dict(type=ConvAdapter, in_channels=channels, out_channels=16),
            loss=dict(type=FeatureMSE, normalise=True, resample='bilinear'),
            weight=0.1,
        )
        for name, student, tap, channels in (('classes', 'stage2', 'neck', 16), ('depth', 'stage3', 'neck', 32))
    }
    teacher = {name: dict(network=pixel_net(name, 1)) for name in TASKS}
    torch.manual_seed(2)
    return Distiller(steering(), links, teacher=teacher)


def test_features_of_other_tasks_are_mimicked_and_only_in_training(tmp_path):
    model = mimicking().train()
    losses = losses_of(model)
    assert losses['distill.classes.loss'] > 0 and losses['distill.depth.loss'] > 0
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    alone = steering().train()
    losses_of(alone)['loss_steering'].backward()
    name = 'net.backbone.layer3.0.conv1.weight'
    gradients = [dict(net.named_parameters())[name].grad for net in (model.student, alone)]
    assert (gradients[0] - gradients[1]).norm() > 1e-3 * gradients[1].norm()
    # What is saved is the student: it loads into the plain one, which has the same outputs and no more parameters.
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    plain = steering(5).eval()
    plain.load_state_dict(torch.load(tmp_path / 'a.pth'), strict=True)
    model.eval()
    with torch.no_grad():
        ours, wanted = (net(**net.data_preprocessor(batch()), mode='tensor') for net in (plain, model))
    assert torch.equal(ours, wanted)


def test_what_is_missing_is_named():
    model, data = steering(), lane_batch()
    with pytest.raises(InputError, match='a/0001 has no steering angle: expected extra/steering.json'):
        losses_of(model, data)
    with pytest.raises(InputError, match='a/0001 has no gt_depth: expected the files of extra/ .* LoadPixelTargets'):
        losses_of(pixel_net('depth'), data)
    with pytest.raises(InputError, match='images have 80 x 32 pixels, but the network takes 64 x 32'):
        losses_of(model, lane_batch((32, 80)))
    with pytest.raises(InputError, match='multiples of 16'):
        SteeringRegressor(**dict(SMALL, input_hw=(40, 64)))
    with pytest.raises(InputError, match='unit_rad is 0'):
        steering(unit_rad=0)
    assert isinstance(model.stage1, nn.Identity)


def test_an_angle_is_drawn_and_described_with_its_side():
    model = steering().eval()
    with torch.no_grad():
        (sample, _) = model(**model.data_preprocessor(batch()), mode='predict')
    angle = float(sample.pred_steering.steering_rad)
    described = describe(sample, ('left', 'right'))['steering']
    assert described == {'angle_rad': angle, 'angle_deg': pytest.approx(math.degrees(angle))}
    sample.pred_steering = LabelData(steering_rad=torch.tensor([math.radians(3)]))
    sample.gt_steering = LabelData(steering_rad=torch.tensor([math.radians(-4)]))
    carried = structures_of(sample)
    (predicted,), truth = carried.predictions, carried.ground_truth[-1]
    assert (predicted.words, truth.words) == ('3.0 deg left', '4.0 deg right')
    frame = SensorFrame({'front': np.full((200, 400, 3), 60, np.uint8)})
    alone = SampleStructures(None, (predicted,)), SampleStructures((truth,), None)
    for one, lean in zip(alone, (-1, 1)):
        picture = draw_sample(frame, (), one, style=PictureStyle(width_px=613))[11:, :539]
        line = (picture == class_color('steering')).all(axis=2)
        line[-70:] = False  # the foot and its words
        rows, columns = np.nonzero(line)
        # Five times the angle from the vertical, at a height of 70 to 80 of 81 pixels.
        wanted = 539 / 2 + lean * math.tan(math.radians(15 if lean < 0 else 20)) * (269 - rows.mean())
        assert len(rows) and abs(columns.mean() - wanted) < 3
    lost = LabelData(steering_rad=torch.tensor([math.nan]))
    sample.pred_steering = lost
    assert describe(sample, ())['steering'] == {'angle_rad': None, 'angle_deg': None}
    assert structures_of(sample).predictions[0].in_camera(camera_view(frame, 'front', picture, 1.0), None) == []
