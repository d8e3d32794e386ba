"""Losses of crowd heads: values against formulas written out, gradients, what has no part in them."""

from __future__ import annotations

import math

import pytest
import torch
from crowd_parts import RANGE_M, instances_of, people_boxes
from mmengine.logging import MessageHub
from torch.nn import functional as F

from perception3d.models.crowd.boxes import encode
from perception3d.models.crowd.losses import LossWeights, box_loss, crowd_losses, gate_loss, training_progress
from perception3d.models.crowd.maps import CrowdMaps, MapGrid
from perception3d.models.crowd.people import gather_people
from perception3d.models.crowd.targets import TargetRules, density_target, gate_prior, level_targets

GRID = MapGrid(RANGE_M, (16, 16))
RULES = TargetRules()


def _people(count=8, labels=None):
    return gather_people([instances_of(people_boxes(count, 1), labels)], torch.device('cpu'))


def _maps(seed=0):
    """Maps of two levels of 16 x 16 and 8 x 8 cells in float64."""
    torch.manual_seed(seed)
    heat = torch.randn(1, 1, 16, 16).double()
    levels = (torch.randn(1, 1, 16, 16).double(), torch.randn(1, 1, 8, 8).double())
    maps = CrowdMaps(
        heat,
        torch.randn(1, 10, 16, 16).double(),
        levels,
        gates=torch.randn(1, 2, 16, 16).double().softmax(1),
        density=torch.rand(1, 1, 16, 16).double() * 4,
        coarse=torch.randn(1, 1, 8, 8).double(),
        relation=torch.randn(1, 2, 16, 16).double(),
        counts=(torch.rand(1, 1, 8, 8).double(),),
    )
    return maps


def _rules():
    return TargetRules(sigmas_m=RULES.sigmas_m[:2], gate_densities=(5, 1))


def test_the_focal_loss_is_the_formula_of_the_sheet():
    people, maps = _people(), _maps()
    losses = crowd_losses(maps, people, RANGE_M, _rules(), LossWeights())
    target = level_targets(people, GRID, _rules(), 0)
    total = 0.0
    for z, y, w in zip(*(part.flatten().double().tolist() for part in (maps.heatmap, target.heatmap, target.weight))):
        h = 1 / (1 + math.exp(-z))
        total -= w * ((1 - h) ** 2 * math.log(h) if y == 1 else (1 - y) ** 4 * h**2 * math.log(1 - h))
    count = int((target.heatmap == 1).sum())
    assert abs(float(losses['loss_heatmap']) - total / count) < 1e-4 * total and count > 2
    assert set(losses) == {
        f'loss_{name}'
        for name in ('heatmap', 'box', 'level0', 'level1', 'density', 'gate', 'coarse', 'relation', 'counts')
    }


def test_losses_of_density_gate_and_boxes_are_their_formulas():
    people, maps, rules = _people(), _maps(), _rules()
    losses = crowd_losses(maps, people, RANGE_M, rules, LossWeights())
    wanted, _ = density_target(people, GRID)
    near = (level_targets(people, GRID, rules, 0).heatmap > 0.1).double()
    each = F.smooth_l1_loss(torch.log(1 + maps.density), torch.log(1 + wanted.double()), reduction='none')
    weight = 1 + 4 * near
    assert torch.allclose(losses['loss_density'].double(), 0.2 * (each * weight).sum() / weight.sum(), rtol=1e-5)
    prior = gate_prior(wanted, rules).double()
    kl = (prior * (prior / maps.gates).log()).sum(1, keepdim=True)
    assert torch.allclose(losses['loss_gate'].double(), 0.1 * (kl * near).sum() / near.sum(), rtol=1e-4)
    codes, cells, inside = encode(people, GRID)
    total = 0.0
    for code, cell in zip(codes[inside].tolist(), cells[inside].tolist()):
        own = maps.codes[0, :, cell // 16, cell % 16].tolist()
        gaps = [abs(a - b) for a, b in zip(own, code)]
        total += sum(gaps[:8]) + sum(0.2 * gap for gap in gaps[8:] if not math.isnan(gap))
    assert abs(float(losses['loss_box']) - 0.25 * total / int(inside.sum())) < 1e-4


def test_gradients_equal_differences():
    people, maps = _people(), _maps()
    fields = ('heatmap', 'codes', 'gates', 'density', 'coarse', 'relation')

    def total(*values):
        own = {**dict(zip(fields, values)), 'levels': values[6:8], 'counts': values[8:]}
        losses = crowd_losses(maps._replace(**own), people, RANGE_M, _rules(), LossWeights())
        return torch.stack(list(losses.values())).sum()

    given = [*(getattr(maps, field) for field in fields), *maps.levels, *maps.counts]
    values = [value.float().requires_grad_() for value in given]
    gradients = torch.autograd.grad(total(*values), values)
    generator = torch.Generator().manual_seed(0)
    names = (*fields, 'level 0', 'level 1', 'counts')
    for k, (field, gradient) in enumerate(zip(names, gradients, strict=True)):
        assert gradient.abs().sum() > 0, field
        direction = torch.randn(values[k].shape, generator=generator)
        step = 1e-3
        ends = [
            total(*[v.detach() + (sign * step * direction if i == k else 0) for i, v in enumerate(values)])
            for sign in (1, -1)
        ]
        slope = float((ends[0] - ends[1]).double()) / (2 * step)
        expected = float((gradient * direction).sum())
        assert abs(slope - expected) < 2e-2 * max(1.0, abs(expected)), (field, slope, expected)


def test_no_gradient_around_ignored_people():
    labels = torch.zeros(8, dtype=torch.long)
    labels[2] = -1
    boxes = people_boxes(8, 1)
    # Alone in a corner, so that no other person's cells are there.
    boxes[2, :2] = torch.tensor([0.6, -4.4])
    boxes[[i for i in range(8) if i != 2], :2] = torch.tensor([6.0, 3.5])
    maps = _maps()
    heat = maps.heatmap.float().requires_grad_()
    density = maps.density.float().requires_grad_()
    coarse = maps.coarse.float().requires_grad_()
    maps = maps._replace(heatmap=heat, density=density, coarse=coarse)

    def gradients(own):
        people = gather_people([instances_of(boxes, own)], torch.device('cpu'))
        losses = crowd_losses(maps, people, RANGE_M, _rules(), LossWeights())
        return torch.autograd.grad(torch.stack(list(losses.values())).sum(), [heat, density, coarse])

    column, row, _ = GRID.cells_of(boxes[2, :2])
    ignored = gradients(labels)
    assert ignored[0][0, 0, row, column] == 0 and ignored[1][0, 0, row, column] == 0
    assert ignored[2][0, 0, row // 2, column // 2] == 0
    # Without the label they are negatives.
    dropped = gradients(torch.where(labels == -1, -2, 0))
    assert dropped[0][0, 0, row, column] > 0 and dropped[1][0, 0, row, column] != 0
    assert dropped[2][0, 0, row // 2, column // 2] > 0


def test_a_batch_without_people_has_finite_losses():
    maps = _maps()
    nobody = gather_people([instances_of(torch.zeros(0, 9))], torch.device('cpu'))
    losses = crowd_losses(maps, nobody, RANGE_M, _rules(), LossWeights())
    assert all(value.isfinite() for value in losses.values())
    assert losses['loss_box'] == 0 and losses['loss_gate'] == 0 and losses['loss_heatmap'] > 0


def test_a_perfect_map_has_no_box_loss_and_perfect_gates_no_loss():
    people = _people()
    codes, cells, inside = encode(people, GRID)
    maps = torch.zeros(1, 10, 16, 16)
    first = {}
    for i in torch.nonzero(inside[0]).flatten().tolist():
        first.setdefault(int(cells[0, i]), i)
        maps[0, :, cells[0, i] // 16, cells[0, i] % 16] = codes[0, i].nan_to_num(nan=5.0)
    assert len(first) == inside.sum()
    assert float(box_loss(maps, people, GRID, LossWeights().codes)) < 1e-6
    prior = torch.rand(1, 3, 4, 4).softmax(1)
    assert abs(float(gate_loss(prior, prior, torch.ones(1, 1, 4, 4, dtype=torch.bool)))) < 1e-6


@pytest.fixture
def running_training():
    hub = MessageHub.get_current_instance()
    before = dict(hub.runtime_info)
    yield hub
    hub._runtime_info.clear()
    hub._runtime_info.update(before)


def test_gates_are_supervised_for_a_third_of_the_training(running_training):
    running_training.update_info('max_iters', 300)
    shares = []
    for step in (0, 50, 100, 250):
        running_training.update_info('iter', step)
        shares.append(float(crowd_losses(_maps(), _people(), RANGE_M, _rules(), LossWeights())['loss_gate']))
    assert training_progress() == 250 / 300
    assert shares[0] > 0 and math.isclose(shares[1], shares[0] / 2, rel_tol=1e-5) and shares[2:] == [0, 0]
