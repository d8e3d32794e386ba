"""The shipped configs of SAD, IntRA-KD and FM-Net: taps exist, a step learns, nothing is left for inference."""

from __future__ import annotations

import copy

import pytest
import torch
from lane_batches import lane_batch
from mmengine.structures import LabelData
from shipped import CONFIGS, config_path

from perception3d.apis.config import load_config
from perception3d.registry import MODELS

NAMES = sorted(
    path.stem
    for folder in ('lane_sad', 'intra_kd', 'fm_net')
    for path in (CONFIGS / folder).glob('*.py')
    if not path.stem.startswith(('fm_net_steering', 'fm_net_scene'))
)
TINY = [name for name in NAMES if 'tiny' in name]


@pytest.fixture(scope='module')
def configs():
    return {name: load_config(config_path(name)) for name in NAMES}


def built(config, device='cpu'):
    """The Distiller of a config with teachers of random weights, and its links from the first step on."""
    config = copy.deepcopy(config)
    teacher = config.get('teacher')
    with torch.device(device):
        if teacher is not None and 'type' in teacher:
            config.teacher = MODELS.build(teacher)
        elif teacher is not None:
            config.teacher = {name: dict(network=MODELS.build(entry.network)) for name, entry in teacher.items()}
        for link in config.links.values():
            link.update(start=0, ramp=0, every=1)
        return MODELS.build(config)


def batch_of(model):
    size = model.net.input_hw
    batch = lane_batch(tuple(size), getattr(model.net, 'num_lanes', 4))
    for sample in batch['data_samples']:
        sample.gt_steering = LabelData(steering_rad=torch.tensor([0.01]))
    return batch


def slow_gradient(model, name, batch):
    """The norm of the gradient of a link at the student's stage: the slope along it, by finite differences."""
    link = model.get_submodule(f'links.{name}')
    torch.manual_seed(1)
    with model._student_taps.record() as taps:
        model.student(**model.data_preprocessor(batch, True), mode='loss')
    student, teacher = (taps[tap.text].detach().double() for tap in (link.student, link.teacher))

    def term(features):
        return link.schedule.weight * link.loss(features, teacher)

    (direction,) = torch.autograd.grad(term(student.requires_grad_()), student)
    direction = direction / direction.norm()
    with torch.no_grad():
        return float(term(student + 1e-2 * direction) - term(student - 1e-2 * direction)) / 2e-2


def test_every_tap_of_every_config_exists(configs):
    for name, config in configs.items():
        model = built(config.model, 'meta')
        for teacher in model.teachers.values():
            assert not any(parameter.requires_grad for parameter in teacher.parameters()), name
        shapes = [(link.student.path, link.teacher.path) for link in model.links.values()]
        if name.startswith('lane_sad'):
            assert shapes == [('stage2', 'stage3'), ('stage3', 'stage4')] and not model.teachers, name
        assert len(shapes) == len(config.model.links), name


@pytest.mark.parametrize('name', TINY)
def test_a_step_of_the_small_ones_learns_from_every_link(name, configs):
    torch.manual_seed(0)
    model = built(configs[name].model).train()
    # As many drops as in the second pass, which measures the gradient.
    torch.manual_seed(1)
    losses = model(**model.data_preprocessor(batch_of(model.student), True), mode='loss')
    links = {key: value for key, value in losses.items() if key.startswith('distill')}
    for link in model.links:
        assert links[f'distill.{link}.value'] > 0, link
    if name.startswith('lane_sad'):
        for link in ('two_three', 'three_four'):
            wanted = slow_gradient(model, link, batch_of(model.student))
            assert float(links[f'distill.{link}.gradient']) == pytest.approx(wanted, rel=0.01) and wanted > 0
        assert 0.5 < links['distill.two_three.entropy'] < 1
    weights = [p for p in model.student.parameters() if p.requires_grad]
    total = sum(value for key, value in links.items() if key.endswith('.loss'))
    gradients = torch.autograd.grad(total, weights, allow_unused=True)
    assert sum(float(gradient.norm()) for gradient in gradients if gradient is not None) > 0


def test_the_distilled_network_is_the_plain_one_at_inference(configs, tmp_path):
    config = configs['lane_sad_enet_tiny_56x256_10e_culane_sim'].model
    torch.manual_seed(0)
    model = built(config).train()
    losses = model(**model.data_preprocessor(batch_of(model.student), True), mode='loss')
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    plain = MODELS.build(load_config(config_path('enet_tiny_56x256_10e_culane_sim')).model)
    plain.load_state_dict(torch.load(tmp_path / 'a.pth'), strict=True)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())
    batch = batch_of(plain)
    with torch.no_grad():
        outputs = [net.eval()(**net.data_preprocessor(dict(batch)), mode='tensor') for net in (model, plain)]
    assert torch.equal(outputs[0].seg_logits, outputs[1].seg_logits)
    assert torch.equal(outputs[0].exist_logits, outputs[1].exist_logits)
    # No hook of a link is left, and nothing records maps.
    assert not any(module._forward_hooks for module in plain.modules())
    assert not any(module._forward_hooks for module in model.student.modules())


def test_stages_of_one_module_are_tapped_by_their_call(configs):
    config = copy.deepcopy(configs['lane_sad_enet_tiny_56x256_10e_culane_sim'].model)
    torch.manual_seed(0)
    by_name = built(config)
    config.links.three_four.update(student='net.deep.1@0', teacher='net.deep.1@1')
    torch.manual_seed(0)
    by_call = built(config)
    values = []
    for model in (by_name.eval(), by_call.eval()):
        losses = model(**model.data_preprocessor(batch_of(model.student)), mode='loss')
        values.append(losses['distill.three_four.value'])
    torch.testing.assert_close(*values)
    assert values[0] > 0


def test_settings_of_sad_reach_both_links():
    options = dict(sad_weight=0.2, sad_start=0.5, sad_ramp=0.1, sad_p=1.0, sad_norm='softmax', sad_temperature=4.0)
    config = load_config(config_path('lane_sad_enet_tiny_56x256_10e_culane_sim'), options).model
    links = [copy.deepcopy(link) for link in config.links.values()]
    assert [(link.weight, link.start, link.ramp) for link in links] == [(0.2, 0.5, 0.1)] * 2
    for link in links:
        link.loss.pop('type')
        assert link.loss == dict(p=1.0, norm='softmax', temperature=4.0)


def test_sad_begins_after_two_thirds_of_a_training(configs):
    model = MODELS.build(configs['lane_sad_enet_paper_288x800_8e_culane'].model)
    assert [model._weights(step, 60000)['two_three'] for step in (39999, 40000)] == [0, pytest.approx(0.1)]
