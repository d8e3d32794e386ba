"""The increment of fusion: its values, and a second pass that does not change the student."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from nets import in_a_group_of_one
from torch import nn
from torch.utils.checkpoint import checkpoint

from perception3d.checks import InputError
from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.fusion_increment import FusionIncrementKD
from perception3d.models.fast_bev.necks import M2BEVNeck

# Lifted maps of height 2, 3 frames, 2 channels: channel ((z * 3) + frame) * 2 + c.
LIFTED = 2 * 3 * 2


class Encoder(nn.Module):
    """A convolution and, optionally, batch norm; takes a list of one map, as the neck of Fast-BEV does."""

    def __init__(self, width, norm, checkpointing):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(LIFTED, width, 1), nn.BatchNorm2d(width) if norm else nn.Identity()
        self.checkpointing = checkpointing

    def body(self, x):
        return self.norm(self.conv(x)).tanh()

    def forward(self, volumes):
        return checkpoint(self.body, volumes[0], use_reentrant=False) if self.checkpointing else self.body(volumes[0])


class Cameras(BaseModel):
    """From images (B, 3, X, Y) to a lifted map, an encoder and a map of logits."""

    def __init__(self, seed, width=4, norm=False, checkpointing=False):
        super().__init__(BaseDataPreprocessor())
        torch.manual_seed(seed)
        self.lift, self.encoder = nn.Conv2d(3, LIFTED, 1), Encoder(width, norm, checkpointing)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor', **kwargs):
        heat = self.head(self.encoder([self.lift(inputs)]))
        return {'loss_heat': heat.square().mean()} if mode == 'loss' else heat


def images():
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def links_of(**settings):
    loss = dict(type=FusionIncrementKD, encoder='encoder', student_frames=3, teacher_frames=3, height=2)
    return dict(increment=dict(student='encoder', teacher='encoder', loss=loss | settings))


def pair(student=None, teacher=None, **settings):
    return Distiller(student or Cameras(0), links_of(**settings), teacher=teacher or Cameras(1))


def value(model):
    return model.loss(images(), [])['distill.increment.value']


def current_frame(lifted):
    kept = torch.zeros_like(lifted)
    for height in range(2):
        first = height * 6  # the current frame is the first of three in each height
        kept[:, first : first + 2] = lifted[:, first : first + 2]
    return kept


def test_the_increment_is_what_the_past_frames_add():
    model, maps = pair(saliency='head').double(), images().double()
    model.teacher.double()
    value = model.loss(maps, [])['distill.increment.value']
    increments, logits = [], None
    for net in (model.student, model.teacher):
        lifted = net.lift(maps)
        fused = net.encoder([lifted])
        increments.append(fused - net.encoder([current_frame(lifted)]))
        logits = net.head(fused)
    student, teacher = increments
    slow = 0.0
    mean, deviation = teacher.mean((0, 2, 3)), teacher.var((0, 2, 3), correction=0).add(1e-6).sqrt()
    scores = logits.sigmoid().amax(1)
    for b in range(2):
        for x in range(4):
            for y in range(5):
                gap = student[b, :, x, y] - (teacher[b, :, x, y] - mean) / deviation
                slow += (gap.square().mean() * scores[b, x, y] / scores[b].mean()).item()
    assert float(value) == pytest.approx(slow / 40, rel=1e-6)


def test_a_student_that_ignores_past_frames_has_no_increment():
    model = pair()
    with torch.no_grad():
        model.student.encoder.conv.weight.mul_(current_frame(torch.ones(1, LIFTED, 1, 1)))
    # What is left is the mean square of a standardised map.
    assert float(value(model)) == pytest.approx(1.0, abs=1e-3)


def test_equal_networks_have_no_loss_with_an_adapter_with_norm():
    student = Cameras(1)
    model = pair(student, adapter=dict(type=ConvAdapter, in_channels=4, out_channels=4, norm=True))
    adapter = model.links['increment'].loss.adapter
    with torch.no_grad():
        adapter.conv.weight.copy_(torch.eye(4)[:, :, None, None])
    assert float(value(model)) < 1e-5


@pytest.mark.parametrize('checkpointing', [False, True])
def test_the_second_pass_moves_and_counts_no_statistics(checkpointing):
    model = pair(Cameras(0, norm=True, checkpointing=checkpointing))
    alone = copy.deepcopy(model.student)
    losses = model.loss(images(), [])
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    alone(images(), mode='loss')['loss_heat'].backward()
    for name, buffer in model.student.named_buffers():
        torch.testing.assert_close(buffer, alone.get_buffer(name), rtol=0, atol=0, msg=name)
    for name, parameter in model.student.named_parameters():
        assert parameter.grad.isfinite().all(), name
    changed = model.student.encoder.conv.weight.grad - alone.encoder.conv.weight.grad
    assert changed.abs().max() > 1e-4


def gradients(model, run):
    losses = run(images(), [], mode='loss')
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def test_checkpointing_has_the_same_gradients():
    plain, saving = (pair(Cameras(0, norm=True, checkpointing=on)) for on in (False, True))
    wanted = gradients(plain, plain)
    for name, gradient in gradients(saving, saving).items():
        torch.testing.assert_close(gradient, wanted[name], msg=name)


def test_wrapped_for_several_processes_it_has_the_same_gradients(tmp_path):
    plain, model = (pair(Cameras(0, norm=True)) for _ in range(2))
    wanted = gradients(plain, plain)
    wrapped = in_a_group_of_one(tmp_path, lambda: gradients(model, nn.parallel.DistributedDataParallel(model)))
    for name, gradient in wrapped.items():
        torch.testing.assert_close(gradient, wanted[name], msg=name)


def test_under_autocast_both_passes_run_in_its_type():
    model = pair(Cameras(0, norm=True))
    dtypes = []
    for net in (model.student, model.teacher):
        net.encoder.conv.register_forward_hook(lambda _, args, output: dtypes.append(output.dtype))
    wanted = float(value(model))
    dtypes.clear()
    with torch.autocast('cpu', torch.bfloat16):
        half = value(model)
    assert dtypes == [torch.bfloat16] * 4 and half.dtype == torch.float32
    assert float(half) == pytest.approx(wanted, rel=0.1)


def test_the_increment_works_in_self_distillation():
    model = Distiller(Cameras(0, norm=True), links_of(), teacher=None)
    counted = model.student.encoder.norm.num_batches_tracked
    losses = model.loss(images(), [])
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert losses['distill.increment.value'] > 0 and counted == 1


def test_the_neck_of_fast_bev_is_an_encoder():
    neck = dict(in_channels=4, out_channels=4, num_layers=1, fuse_channels=LIFTED, stride=2)
    student, teacher = Cameras(0), Cameras(1)
    student.encoder, teacher.encoder = M2BEVNeck(**neck, with_cp=True), M2BEVNeck(**neck)
    model = pair(student, teacher)
    losses = model.loss(images(), [])
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert losses['distill.increment.value'] > 0
    assert student.encoder.model[1].bn.num_batches_tracked == 2  # checkpointing itself counts twice


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(student_frames=1), 'two frames'),
        (dict(height=5), '12 channels are not a multiple of .height x levels. 5 x frames 3'),
        (dict(encoder='encodr'), "'encodr': did you mean 'encoder'"),
        (dict(teacher_encoder='haed'), "'haed': did you mean 'head'"),
    ],
)
def test_mistakes_are_errors_that_name_them(settings, message):
    with pytest.raises(InputError, match=message):
        pair(**settings).loss(images(), [])


def test_another_output_than_the_encoders_is_named():
    links = links_of()
    links['increment'].update(student='head', teacher='head')
    with pytest.raises(InputError, match='tap the output of the encoder'):
        Distiller(Cameras(0), links, teacher=Cameras(1)).loss(images(), [])
