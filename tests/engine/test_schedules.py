"""Schedules of short trainings: no part of one is lost, and nothing changes where all have whole iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import LinearLR
from mmengine.registry import PARAM_SCHEDULERS

from perception3d.apis.config import load_config
from perception3d.engine.schedules import with_whole_parts

ROOT = Path(__file__).resolve().parents[2]
PILLARS = ROOT / 'configs' / 'point_pillars' / 'point_pillars_secfpn_160e_custom_boxes.py'


def one_cycle(max_epochs: int) -> list[ConfigDict]:
    return load_config(PILLARS, {'max_epochs': max_epochs}).param_scheduler


def rates(parts: list[dict[str, Any]], epoch_length: int, steps: int) -> list[float]:
    """The learning rates of a training, first that of its first step."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.001, betas=(0.95, 0.99))
    default = dict(optimizer=optimizer, epoch_length=epoch_length)
    schedules = [PARAM_SCHEDULERS.build(dict(part), default_args=default) for part in parts]
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for schedule in schedules:
            schedule.step()
    return [*values, optimizer.param_groups[0]['lr']]


def test_one_epoch_of_two_iterations_keeps_its_first_rate():
    parts = one_cycle(1)
    with pytest.raises(ValueError, match='end should be larger than begin'):
        rates(parts, 2, 2)
    whole = with_whole_parts(parts, 2)
    assert len(whole) == 4 and rates(whole, 2, 2) == [0.001, 0.001, 0.001]


def test_an_epoch_of_one_iteration_has_no_second_part():
    whole = with_whole_parts(one_cycle(1), 1)
    assert len(whole) == 2 and rates(whole, 1, 1) == [0.001, 0.001]
    assert with_whole_parts({'optimizer': one_cycle(1)}, 1) == {'optimizer': whole}


@pytest.mark.parametrize('epochs, epoch_length', [(0.2, 4), (1, 1), (0.25, 4), (0.1, 10), (0.2, 10)])
def test_a_rise_of_one_iteration_does_not_hold_the_whole_training_down(epochs: float, epoch_length: int):
    rise = dict(type=LinearLR, start_factor=0.01, by_epoch=True, begin=0, end=epochs, convert_to_iter_based=True)
    found = rates(with_whole_parts([rise], epoch_length), epoch_length, 3)
    first = 1e-5 if epochs * epoch_length >= 2 else 1e-3
    assert found == pytest.approx([first, 1e-3, 1e-3, 1e-3])


@pytest.mark.parametrize('max_epochs, epoch_length', [(1, 3), (1, 49), (80, 1), (7, 5)])
def test_parts_of_whole_iterations_stay_as_they_are(max_epochs: int, epoch_length: int):
    parts = one_cycle(max_epochs)
    assert with_whole_parts(parts, epoch_length) == parts
    rates(parts, epoch_length, 2)


def test_parts_by_iteration_and_without_an_end_stay():
    parts = [dict(type=LinearLR, by_epoch=False, begin=0, end=1000), dict(type=LinearLR, convert_to_iter_based=True)]
    assert with_whole_parts(parts, 1) == parts
    assert with_whole_parts(parts[0], 1) == parts[:1]
