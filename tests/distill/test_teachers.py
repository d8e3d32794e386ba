"""Several teachers with names: what is run, what is logged and saved, and the errors of wrong names."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.runner.checkpoint import get_state_dict
from nets import MeanGap, SeededNet, gap, images, net

from perception3d.checks import InputError
from perception3d.distill.adapter import ConvAdapter
from perception3d.distill.distiller import Distiller
from perception3d.distill.tap import Tap

ADAPTER = dict(type=ConvAdapter, in_channels=4, out_channels=6)


def distiller(links, **settings):
    """A student with adapters of one seed."""
    student = net(0)
    torch.manual_seed(3)
    return Distiller(student, links, **settings)


def two(links=None, **settings):
    wide, narrow = net(1, width=6), net(2)
    settings.setdefault('teacher', dict(wide=dict(network=wide), narrow=dict(network=narrow)))
    links = links or dict(
        a=gap('second', 'wide:second', adapter=ADAPTER), b=gap('head[0]', 'narrow:head[0]', weight=0.5)
    )
    return distiller(links, **settings), wide, narrow


def test_each_link_reads_its_teacher():
    losses = two()[0].loss(images(), [])
    context = MeanGap.last
    wide = distiller(dict(a=gap('second', adapter=ADAPTER)), teacher=net(1, width=6)).loss(images(), [])
    narrow = distiller(dict(b=gap('head[0]', weight=0.5)), teacher=net(2)).loss(images(), [])
    for name, alone in (('distill.a.loss', wide), ('distill.b.loss', narrow)):
        torch.testing.assert_close(losses[name], alone[name])
        assert bool(losses[name] > 0)
    assert set(context.teacher) == {'wide:second', 'narrow:head[0]'}
    assert set(context.teacher_inputs) == {'wide', 'narrow'} and context.teacher_inputs['wide'] is context.inputs
    with pytest.raises(InputError, match="unknown tap 'wide:secnd': did you mean 'wide:second'"):
        context.teacher['wide:secnd']


def test_teachers_are_frozen_in_eval_mode_and_never_saved():
    model, wide, narrow = two()
    before = [copy.deepcopy(teacher.state_dict()) for teacher in (wide, narrow)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.train()
    sum(value for name, value in model.loss(images(), []).items() if 'loss' in name).backward()
    optimizer.step()
    for teacher, state in zip((wide, narrow), before, strict=True):
        assert not teacher.training and not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
        assert all(torch.equal(value, state[name]) for name, value in teacher.state_dict().items())
        assert teacher not in list(model.modules())
    assert list(get_state_dict(model)) == list(net(0).state_dict())
    assert set(model.training_state()) >= {'a.adapter.conv.weight'} and not any(
        'wide' in x for x in model.training_state()
    )
    assert copy.deepcopy(model).teachers['wide'] is wide and model.teacher is None
    other = two()[0]
    other.load_training_state(model.training_state())
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.loss(images(), [])['distill.a.value'], model.loss(images(), [])['distill.a.value'])


def test_only_the_teachers_of_active_links_are_run_and_get_a_view():
    links = dict(a=gap('second', 'wide:second', adapter=ADAPTER, start=5), b=gap('head[0]', 'narrow:head[0]'))
    model, wide, narrow = two(links)
    seen = []
    for name, teacher in (('wide', wide), ('narrow', narrow)):
        teacher.data_preprocessor.register_forward_hook(lambda *_, name=name: seen.append(name))
    data = {'inputs': images(), 'data_samples': [1], 'teacher': {'inputs': images(3), 'data_samples': [2]}}
    batch = model.data_preprocessor(data, training=True)
    assert seen == ['narrow'] and set(batch['teacher']) == {'narrow'}
    model(**batch, mode='loss')
    assert wide.head.calls == 0 and narrow.head.calls == 1
    torch.testing.assert_close(MeanGap.last.teacher_inputs['narrow'], images(3))


def test_checkpoints_are_loaded_by_name(tmp_path):
    torch.save({'state_dict': net(7).state_dict(), 'meta': {'dataset_meta': {'classes': ('a',)}}}, tmp_path / 'a.pth')
    model, *_ = two(
        dict(b=gap('head[0]', 'narrow:head[0]')),
        teacher=dict(narrow=dict(network=net(2), checkpoint=str(tmp_path / 'a.pth'))),
    )
    model.init_weights()
    torch.testing.assert_close(model.teachers['narrow'].first.weight, net(7).first.weight)
    assert model.teacher_metas == {'narrow': {'dataset_meta': {'classes': ('a',)}}}


def test_a_colon_begins_an_input_or_follows_a_name():
    assert Tap('neck:input[1]').of_input and Tap('neck:input[1]').network == ''
    tap = Tap('depth:neck.0@1:input[0]')
    assert (tap.network, tap.path, tap.call, tap.of_input, tap.keys) == ('depth', 'neck.0', 1, True, [0])
    assert Tap('depth:input_conv').path == 'input_conv'


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(links=dict(a=gap('second', 'wied:second'))), "unknown teacher 'wied': did you mean 'wide'"),
        (dict(links=dict(a=gap('second'))), "does not say of which teacher: write 'wide:second'.* wide, narrow"),
        (dict(links=dict(a=gap('second', 'wide:secnd'))), "'secnd': did you mean 'second'"),
        (dict(links=dict(a=gap('wide:second', 'wide:second'))), "'wide:second' names the network 'wide'"),
        (dict(links=dict(a=gap('second', 'x:second')), teacher=None), "'x:second' names the network 'x'"),
        (dict(links=dict(a=gap('second', 'x:second')), teacher=net(1)), 'the one teacher has no name'),
        (dict(teacher={}, links=dict(a=gap('second', 'wide:second'))), 'teacher is an empty dict'),
        (dict(teacher=dict(wide=dict(checkpoint='a.pth'))), "teacher 'wide': expected dict.network=.*'checkpoint'"),
        (dict(teacher=dict(wide=net(1))), "teacher 'wide': expected dict.*got Net"),
        (dict(teacher=dict(a=dict(network=net(1), mode='tensr')), links=dict(b=gap('first', 'a:first'))), "'tensor'"),
        (dict(teacher_checkpoint='a.pth'), 'set teacher.NAME.checkpoint'),
        (dict(inherit=True), 'settings of one teacher'),
        (dict(labels=dict(type=MeanGap)), 'settings of one teacher'),
    ],
)  # fmt: skip
def test_mistakes_are_errors_that_name_them(settings, message):
    with pytest.raises(InputError, match=message):
        two(**settings)[0].loss(images(), [])


def test_a_teacher_without_weights_names_its_setting():
    model, *_ = two(dict(b=gap('head', 'far:head')), teacher=dict(far=dict(network=dict(type=SeededNet))))
    with pytest.raises(InputError, match='no weights: set model.teacher.far.checkpoint'):
        model.init_weights()
