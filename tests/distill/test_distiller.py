"""The Distiller: what is trained, what is saved, when the teacher runs, and the errors of wrong configs."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import get_state_dict, load_state_dict
from mmengine.structures import BaseDataElement
from nets import MeanGap, Net, gap, images, net

from perception3d.checks import InputError
from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.distiller import Distiller
from perception3d.distill.finite import FiniteCheck
from perception3d.distill.schedule import WeightSchedule
from perception3d.engine.training_state import TrainingStateHook
from perception3d.registry import MODELS


class PairGap(torch.nn.Module):
    """Mean squared gap of two pairs; `last` has the dtypes of its inputs."""

    last = None

    def forward(self, student, teacher, context):
        PairGap.last = [tensor.dtype for tensor in (*student, *teacher)]
        return sum((a - b).square().mean() for a, b in zip(student, teacher, strict=True))


class FirstOfPair(torch.nn.Module):
    """Gap of the mean to that of both outputs of the other end."""

    def forward(self, student, teacher, context):
        return sum((student.mean() - part.mean()).square() for part in teacher)


def pair(links=None, student=None, **settings):
    settings.setdefault('teacher', net(1, width=6))
    adapter = dict(type=ConvAdapter, in_channels=4, out_channels=6)
    links = links or dict(maps=gap(weight=0.5, adapter=adapter), heat=gap('head[0]'))
    student = student or net(0)
    torch.manual_seed(3)
    return Distiller(student, links, **settings)


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


def test_gradients_are_those_of_the_student_loss_plus_the_links():
    model = pair()
    student, teacher, adapter = net(0), net(1, width=6), copy.deepcopy(model.links['maps'].adapter)
    total(model.loss(images(), [])).backward()
    with torch.no_grad():
        teacher.eval()
        wanted = teacher.features(images())
        heat = teacher.head(wanted)[0]
    maps = student.features(images())
    student_heat, student_boxes = student.head(maps)
    loss = student_heat.square().mean() + student_boxes.square().mean()
    loss = loss + 0.5 * (adapter(maps) - wanted).square().mean() + (student_heat - heat).square().mean()
    loss.backward()
    for (name, ours), reference in zip(model.student.named_parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, reference.grad, msg=name)
    torch.testing.assert_close(model.links['maps'].adapter.conv.weight.grad, adapter.conv.weight.grad)


def test_the_log_has_every_link_with_its_value_and_scale():
    losses = pair().loss(images(), [])
    assert {
        'loss_heat',
        'loss_boxes',
        'recall',
        'distill.maps.loss',
        'distill.maps.value',
        'distill.maps.scale',
    } <= losses.keys()
    torch.testing.assert_close(losses['distill.maps.loss'].detach(), losses['distill.maps.value'] * 0.5)
    assert not losses['distill.maps.value'].requires_grad and float(losses['distill.maps.scale']) == 0.5


def test_the_teacher_is_frozen_in_eval_mode_and_not_a_submodule():
    teacher = net(1, width=6)
    model = pair(teacher=teacher)
    before = copy.deepcopy(teacher.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.train()
    total(model.loss(images(), [])).backward()
    optimizer.step()
    assert not teacher.training and not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert teacher not in list(model.modules()) and model.teacher is teacher
    assert copy.deepcopy(model).teacher is teacher


@pytest.mark.parametrize('wrapped', [False, True])
def test_the_state_dict_is_the_students(wrapped):
    model, plain = pair(), net(5)
    holder = ExponentialMovingAverage(model) if wrapped else model
    state = holder.module.state_dict() if wrapped else holder.state_dict()
    assert list(state) == list(plain.state_dict())
    plain.load_state_dict(state, strict=True)
    other = pair(student=net(7))
    other.load_state_dict(state, strict=True)
    torch.testing.assert_close(other.student.first.weight, model.student.first.weight)
    if wrapped:
        again = ExponentialMovingAverage(pair(student=net(8)))
        again.load_state_dict(holder.state_dict(), strict=True)
        torch.testing.assert_close(again.module.student.first.weight, model.student.first.weight)


def test_mmengine_saves_and_loads_the_plain_student():
    model, other = pair(), pair(student=net(7))
    state = get_state_dict(model)
    assert list(state) == list(net(0).state_dict())
    load_state_dict(other, state, strict=True)
    torch.testing.assert_close(other.student.second.weight, model.student.second.weight)
    with pytest.raises(RuntimeError, match='third'):
        load_state_dict(other, {**state, 'third.weight': torch.zeros(1)}, strict=True)
    with pytest.raises(RuntimeError, match='first.weight'):
        other.load_state_dict({name: value for name, value in state.items() if name != 'first.weight'})


def test_training_state_holds_the_adapters_and_refuses_other_links():
    model, other = pair(), pair()
    other.load_training_state(model.training_state())
    torch.testing.assert_close(other.links['maps'].adapter.conv.weight, model.links['maps'].adapter.conv.weight)
    with pytest.raises(InputError, match='other links'):
        pair(dict(heat=gap('head[0]'))).load_training_state(model.training_state())


def test_it_predicts_as_the_student():
    model, plain = pair().eval(), net(0).eval()
    torch.testing.assert_close(model(images(), [], mode='predict'), plain(images(), [], mode='predict'))
    torch.testing.assert_close(model(images()), plain(images()))


def test_the_teachers_forward_ends_after_its_last_tap():
    teacher = net(1)
    model = pair(dict(maps=gap()), teacher=teacher)
    values = [float(model.loss(images(), [])['distill.maps.value']) for _ in range(3)]
    assert teacher.head.calls == 1  # the first forward learns the order, the others stop before the head
    assert model.student.head.calls == 3 and len(set(values)) == 1


def test_without_a_call_index_the_last_call_is_recorded_and_the_pass_does_not_end_early():
    class Twice(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.data_preprocessor = inner, inner.data_preprocessor

        def forward(self, inputs, samples, mode):
            self.inner(inputs * 2)
            return self.inner(inputs)

    teacher = net(1)
    twice = pair(dict(maps=gap(teacher='inner.second')), teacher=Twice(teacher))
    for _ in range(3):
        value = twice.loss(images(), [])['distill.maps.value']
    torch.testing.assert_close(value, pair(dict(maps=gap()), teacher=net(1)).loss(images(), [])['distill.maps.value'])
    assert teacher.head.calls == 6


def test_no_link_active_means_no_teacher_forward():
    teacher = net(1, width=6)
    model = pair(dict(maps=gap(weight=0.0), heat=gap('head[0]', start=5)), teacher=teacher)
    losses = model.loss(images(), [])
    assert teacher.head.calls == 0 and set(losses) == {'loss_heat', 'loss_boxes', 'recall'}


def test_a_link_may_be_left_out_of_most_steps(monkeypatch):
    from perception3d.distill import distiller

    adapter = dict(type=ConvAdapter, in_channels=4, out_channels=6)
    always = dict(maps=gap(weight=0.5, adapter=adapter), heat=gap('head[0]'))
    seldom = dict(maps=gap(weight=0.5, adapter=adapter, every=3), heat=gap('head[0]', every=2))
    reference = pair(always).loss(images(), [])
    for step in range(7):
        monkeypatch.setattr(distiller, '_progress', lambda step=step: (step, None))
        teacher = net(1, width=6)
        model = pair(seldom, teacher=teacher)
        hooks = []
        for each in (model.student, teacher):
            for module in (each.second, each.head):
                module.register_forward_hook(
                    lambda module, *_, hooks=hooks: hooks.append(len(module._forward_hooks) - 1)
                )
        losses = model.loss(images(), [])
        for name, every in (('maps', 3), ('heat', 2)):
            # The sum over `every` steps is that of a link that is active in all of them.
            factor = every if step % every == 0 else 0
            torch.testing.assert_close(losses[f'distill.{name}.loss'], reference[f'distill.{name}.loss'] * factor)
            assert (f'distill.{name}.value' in losses) == bool(factor)
            if factor:
                torch.testing.assert_close(losses[f'distill.{name}.value'], reference[f'distill.{name}.value'])
        needed = (step % 3 == 0) + (step % 2 == 0)
        assert sum(hooks) == 2 * needed and len(hooks) == (4 if needed else 2)  # the student, and the teacher with it
        total(losses).backward()
        weight = model.links['maps'].adapter.conv.weight
        assert weight.grad is not None and bool(weight.grad.any()) == (step % 3 == 0)


def test_a_step_without_the_teacher_skips_its_preprocessing(monkeypatch):
    from perception3d.distill import distiller

    model = pair(dict(maps=gap(every=2)), teacher=net(1))
    seen = []
    model.teacher.data_preprocessor.register_forward_hook(lambda *_: seen.append(1))
    data = {'inputs': images(), 'data_samples': [1], 'teacher': {'inputs': images(3), 'data_samples': [2]}}
    for step in range(4):
        monkeypatch.setattr(distiller, '_progress', lambda step=step: (step, None))
        batch = model.data_preprocessor(data, training=True)
        assert ('teacher' in batch) == (step % 2 == 0)
        model(**batch, mode='loss')
    assert len(seen) == 2


def test_an_idle_adapter_still_has_a_gradient_for_other_processes():
    model = pair(dict(maps=gap(start=5, adapter=dict(type=ConvAdapter, in_channels=4, out_channels=6))))
    losses = model.loss(images(), [])
    total(losses).backward()
    assert not losses['distill.maps.loss'].any() and not model.links['maps'].adapter.conv.weight.grad.any()


def test_self_distillation_moves_the_student_end_alone():
    model = Distiller(net(0), dict(deep=gap('first', teacher='second')))
    loss = model.loss(images(), [])['distill.deep.loss']
    loss.backward()
    assert model.student.first.weight.grad.abs().sum() > 0
    assert model.student.second.weight.grad is None and model.teacher is None


@pytest.mark.parametrize('reentrant', [False, True])
def test_gradient_checkpointing(reentrant):
    plain, model = pair(), pair(student=net(0, checkpointing=reentrant))
    if reentrant:
        with pytest.raises(InputError, match='use_reentrant'):
            model.loss(images(), [])
        return
    for each in (plain, model):
        total(each.loss(images(), [])).backward()
    for ours, reference in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, reference.grad)


def test_mixed_precision_computes_the_links_in_float32():
    model = pair()
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(images(), [])
    assert losses['distill.maps.loss'].dtype == torch.float32
    total(losses).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    exact = pair().loss(images(), [])
    torch.testing.assert_close(losses['distill.maps.value'], exact['distill.maps.value'], rtol=0.05, atol=0.01)


def test_a_matched_link_has_the_wanted_share_of_the_students_loss():
    model = pair(dict(maps=gap(match=0.25, match_steps=2, weight=2.0), heat=gap('head[0]')), teacher=net(1)).train()
    first = model.loss(images(), [])
    own = first['loss_heat'] + first['loss_boxes']
    torch.testing.assert_close(first['distill.maps.loss'], own * 0.5)
    for seed in (1, 2, 3):
        scale = model.loss(images(seed), [])['distill.maps.scale']
    torch.testing.assert_close(scale, model.links['maps'].scale * 2)
    frozen = float(model.links['maps'].scale)
    model.loss(images(9), [])
    assert float(model.links['maps'].scale) == frozen and float(model.links['maps'].seen) == 2


def test_the_context_has_the_batch_and_all_taps():
    model = pair(
        dict(maps=dict(student='second', teacher='second', loss=dict(type=MeanGap, also=('head[1]',)))), teacher=net(1)
    )
    samples = [object()] * 4
    model.loss(images(), samples)
    context = MeanGap.last
    assert context.samples is samples and set(context.teacher) == {'second', 'head[1]'} and context.step >= 0
    with pytest.raises(TypeError):
        context.student['second'] = 1
    with pytest.raises(InputError, match="unknown tap 'head'"):
        context.teacher['head']


def test_a_teacher_may_have_its_own_view_and_its_own_preprocessing():
    model = pair(dict(maps=gap()), teacher=net(1))
    data = {'inputs': images(), 'data_samples': [1], 'teacher': {'inputs': images(3), 'data_samples': [2]}}
    batch = model.data_preprocessor(data, training=True)
    assert 'teacher' in data  # the caller's batch is as it was
    model(**batch, mode='loss')
    context = MeanGap.last
    torch.testing.assert_close(context.teacher_inputs, images(3))
    assert context.teacher_samples == [2] and context.samples == [1]
    wanted = net(1).eval().features(images(3))
    torch.testing.assert_close(context.teacher['second'], wanted)
    assert 'teacher' not in model.data_preprocessor(data, training=False)


class PaddedNet(Net):
    """A net whose data preprocessor pads the image, and writes its size into the samples as those of mmdet do."""

    def __init__(self, size, **settings):
        super().__init__(**settings)
        self.data_preprocessor.forward = lambda data, training=False: self.padded(dict(data), size)

    @staticmethod
    def padded(data, size):
        for sample in data['data_samples']:
            sample.set_metainfo({'batch_input_shape': (size, size)})
        height, width = data['inputs'].shape[2:]
        data['inputs'] = torch.nn.functional.pad(data['inputs'], (0, size - width, 0, size - height))
        return data


def test_both_preprocessors_write_into_samples_of_their_own():
    torch.manual_seed(0)
    model = pair(dict(maps=gap()), student=PaddedNet(6), teacher=PaddedNet(8))
    boxes = torch.ones(3, 7)
    samples = [BaseDataElement(metainfo={'name': 'a'}, boxes=boxes) for _ in range(4)]
    batch = model.data_preprocessor({'inputs': images(), 'data_samples': samples}, training=True)
    assert batch['data_samples'][0].batch_input_shape == (6, 6)
    teacher_sample = batch['teacher']['data_samples'][0]
    assert teacher_sample.batch_input_shape == (8, 8) and teacher_sample.name == 'a' and teacher_sample.boxes is boxes


@pytest.mark.parametrize('state', ['parameter', 'buffer'])
def test_labels_whose_state_would_be_lost_are_refused(state):
    class Learned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            if state == 'buffer':
                self.register_buffer('threshold', torch.ones(1))
            else:
                self.threshold = torch.nn.Parameter(torch.ones(1))

    with pytest.raises(InputError, match='labels: Learned has the state threshold, which no checkpoint would save'):
        pair(labels=dict(type=Learned))


def test_frozen_parameters_stay():
    model = pair(freeze=('first.*', 'norm.bias'))
    names = {name for name, p in model.student.named_parameters() if not p.requires_grad}
    assert names == {'first.weight', 'first.bias', 'norm.bias'}
    with pytest.raises(InputError, match='did you mean'):
        pair(freeze=('frist.weight',))


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(links=dict(a=gap('secnd'))), "'secnd': did you mean 'second'"),
        (dict(links=dict(a=gap('second', teacher='haed'))), "'haed': did you mean 'head'"),
        (dict(links=dict(a=gap('head[7]'))), r'the tuple of 2 at head has no \[7\]'),
        (dict(links=dict(a=gap('data_preprocessor'))), 'does not call data_preprocessor'),
        (dict(links=dict(a=gap('norm')), student=net(0, inplace=True), teacher=net(1)), 'overwritten'),
        (dict(links=dict(a=gap(weight=-1.0))), "link 'a': invalid weight=-1.0: expected a finite number"),
        (dict(links=dict(a=gap(weight=float('nan')))), 'weight=nan'),
        (dict(links=dict(a=gap(every=0))), 'every=0: expected a number of iterations'),
        (dict(links=dict(a=gap(every=0.5))), 'every=0.5'),
        (dict(links=dict(a=gap(weigth=2))), "link 'a'.*weigth"),
        (dict(links=dict(a=gap(start=1.5))), 'share of the training'),
        (dict(links=dict(a=gap(ramp=0.5))), 'length of the training is not known'),
        (dict(links=dict(my_loss=gap())), "without 'loss'"),
        (dict(links=dict(a=dict(student='second'))), 'needs student, teacher and loss'),
        (dict(links=dict(a=gap(match=-1.0))), 'positive share'),
        (dict(links=dict(a=gap('a b'))), "invalid tap 'a b': expected 'a.b'"),
        (dict(links=dict(a=gap('head@x'))), "invalid tap 'head@x'"),
        (dict(links=dict(a=gap('head@1[0]'))), r"calls head once, not 2 times: write 'head\[0\]'"),
        (dict(teacher=None, inherit=True, links=dict(a=gap())), 'need a teacher'),
        (dict(teacher=dict(type='Distiller'), links=dict(a=gap())), 'no weights'),
    ],
)
def test_mistakes_are_errors_that_name_them(settings, message, monkeypatch):
    from perception3d.distill import distiller

    monkeypatch.setattr(distiller, '_progress', lambda: (0, None))
    with pytest.raises(InputError, match=message):
        pair(**settings).loss(images(), [])


@pytest.mark.parametrize('link', [gap(), dict(student='head', teacher='head', loss=dict(type=PairGap))])
def test_a_frozen_student_end_is_refused(link):
    student = net(0)
    student.requires_grad_(False)
    with pytest.raises(InputError, match='no gradient'):
        pair(dict(a=link), student=student, teacher=net(1)).loss(images(), [])


def test_all_parts_of_an_output_are_checked():
    link = dict(student='head', teacher='head', loss=dict(type=PairGap))
    with torch.autocast('cpu', torch.bfloat16):
        pair(dict(a=link), teacher=net(1)).loss(images(), [])
    assert PairGap.last == [torch.float32] * 4

    class Clipped(Net):
        """Overwrites one of the head's outputs, as a sigmoid in place does."""

        def forward(self, inputs, data_samples=None, mode='tensor'):
            heat, boxes = self.head(self.features(inputs))
            with torch.no_grad():
                boxes.clamp_(-1, 1)
            return {'loss_heat': heat.square().mean()} if mode == 'loss' else (heat, boxes)

    with pytest.raises(InputError, match="tap 'head': the next operation.*overwritten"):
        pair(dict(a=link), student=Clipped(), teacher=net(1)).loss(images(), [])


def test_self_distillation_of_several_outputs_has_gradients_at_the_student_end_alone():
    link = dict(student='second', teacher='head', loss=dict(type=FirstOfPair))
    model = Distiller(net(0), dict(deep=link))
    model.loss(images(), [])['distill.deep.loss'].backward()
    assert model.student.first.weight.grad.abs().sum() > 0 and model.student.head.boxes.weight.grad is None


class Versioned(torch.nn.Conv2d):
    """A layer whose weight layout depends on the version in the checkpoint, as those of spconv do."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        self.loaded_version = local_metadata.get('version')
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def versioned(seed):
    student = net(seed)
    student.second = Versioned(4, 4, 3, padding=1)
    return student


@pytest.mark.parametrize('load', ['torch', 'mmengine'])
def test_layers_find_the_version_of_their_weights(load, tmp_path):
    def into(model, state):
        return load_state_dict(model, state, strict=True) if load == 'mmengine' else model.load_state_dict(state)

    distilled, plain = pair(student=versioned(0)), versioned(1)
    torch.save(get_state_dict(distilled), tmp_path / 'student.pth')
    into(plain, torch.load(tmp_path / 'student.pth'))
    assert plain.second.loaded_version == 2
    other = pair(student=versioned(2))
    into(other, versioned(3).state_dict())
    assert other.student.second.loaded_version == 2
    into(other, distilled.state_dict())
    assert other.student.second.loaded_version == 2
    average = ExponentialMovingAverage(pair(student=versioned(4)))
    average.load_state_dict(ExponentialMovingAverage(distilled).state_dict())
    assert average.module.student.second.loaded_version == 2


def test_a_teacher_is_loaded_with_the_versions_of_its_layers(tmp_path):
    torch.save({'state_dict': versioned(0).state_dict()}, tmp_path / 'teacher.pth')
    model = pair(dict(maps=gap()), teacher=versioned(5), teacher_checkpoint=str(tmp_path / 'teacher.pth'))
    assert model.teacher.second.loaded_version == 2
    torch.testing.assert_close(model.teacher.first.weight, net(0).first.weight)


def test_the_student_has_the_initial_weights_of_a_training_without_distillation():
    teacher = net(1, width=6)
    torch.manual_seed(7)
    alone = MODELS.build(dict(type='SeededNet'))
    alone.init_weights()
    torch.manual_seed(7)
    adapter = dict(type=ConvAdapter, in_channels=4, out_channels=6)
    model = Distiller(dict(type='SeededNet'), dict(maps=gap(adapter=adapter)), teacher=teacher)
    model.init_weights()
    for name, value in alone.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_loss_that_is_not_finite_names_its_link():
    model = pair(dict(maps=gap(), heat=gap('head[0]')), teacher=net(1))
    with torch.no_grad():
        model.teacher.head.heat.bias.fill_(float('nan'))
    with pytest.raises(InputError, match="link 'heat': its loss is not finite in iteration 0"):
        model.loss(images(), [])


class DeviceTensor:
    """Stands in for a tensor on a GPU: counts how often its value is read."""

    reads = 0

    def __init__(self, value):
        self.value = value

    def __int__(self):
        DeviceTensor.reads += 1
        return int(self.value)


def test_values_on_a_gpu_are_read_once_per_interval():
    check = FiniteCheck(interval=10)
    value = torch.tensor(float('nan'), device='meta')
    for step in (3, 4):
        check.add('a', value, step)  # a meta tensor has no value: reading it would be an error
        check.end_step(step)
    assert set(check._first_bad_step) == {'a'}
    check._first_bad_step = {'a': DeviceTensor(-1), 'b': DeviceTensor(7)}
    check.end_step(9)
    assert not DeviceTensor.reads
    # Link b is not active in step 10.
    with pytest.raises(InputError, match="link 'b': its loss is not finite in iteration 7"):
        check.end_step(10)
    assert DeviceTensor.reads and not check._first_bad_step


def test_nothing_is_saved_after_a_loss_that_is_not_finite():
    model = pair()
    assert model.training_state()
    model._finite._first_bad_step = {'maps': DeviceTensor(5)}
    with pytest.raises(InputError, match="link 'maps': its loss is not finite in iteration 5"):
        model.training_state()


def test_every_process_checks_at_the_end_of_a_training():
    model = pair()
    model._finite._first_bad_step = {'maps': DeviceTensor(8)}
    with pytest.raises(InputError, match='iteration 8'):
        TrainingStateHook().after_train(SimpleNamespace(model=model))
    TrainingStateHook().after_train(SimpleNamespace(model=net(0)))


def test_taps_follow_modules_that_are_replaced():
    model = pair(dict(maps=gap('norm')), teacher=net(1))
    model.student.norm = torch.nn.Sequential(model.student.norm)  # as a conversion of norms would
    assert model.loss(images(), [])['distill.maps.value'] > 0


def test_links_without_weight_do_not_prolong_the_teachers_forward():
    teacher = net(1)
    model = pair(dict(maps=gap(), heat=gap('head[0]', weight=0.0)), teacher=teacher)
    for _ in range(3):
        model.loss(images(), [])
    assert teacher.head.calls == 1


@pytest.mark.parametrize('wrong', [dict(decay_to=7.0, decay_start=0), dict(decay=5), dict(decay_to=0.5)])
def test_invalid_schedules_are_refused(wrong):
    with pytest.raises(InputError, match='decay'):
        WeightSchedule(**wrong)


def test_weights_follow_the_schedule():
    rising = WeightSchedule(weight=2.0, start=2, ramp=4)
    assert [rising.at(step, None) for step in range(7)] == [0, 0, 0.5, 1.0, 1.5, 2.0, 2.0]
    falling = WeightSchedule(weight=1.0, decay_start=2, decay=4, decay_to=0.2)
    assert [falling.at(step, None) for step in (0, 1, 2, 3, 5, 9)] == pytest.approx([1, 1, 0.8, 0.6, 0.2, 0.2])
    seldom = WeightSchedule(weight=2.0, start=1, ramp=4, every=2)
    # Iterations 1 to 4 of the ramp have 0.5, 1, 1.5 and 2: the even ones are active, with twice the weight.
    assert [seldom.at(step, None) for step in range(7)] == [0, 0, 2.0, 0, 4.0, 0, 4.0]
    shares = WeightSchedule(weight=1.0, start=0.1, ramp=0.2, decay_start=0.8)
    assert [shares.at(step, 10) for step in range(10)] == pytest.approx([0, 0.5, 1, 1, 1, 1, 1, 1, 0.5, 0])
