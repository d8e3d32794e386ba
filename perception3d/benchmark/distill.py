"""What a distillation step costs, compared with the step of its student and the forward pass of its teacher."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope

from perception3d.benchmark import Settings, Tables
from perception3d.benchmark.timing import elapsed_ms
from perception3d.checks import InputError
from perception3d.engine.cpu import prepare_cpu
from perception3d.engine.runner import PerceptionRunner
from perception3d.registry import MODELS


def benchmark_distill(config: Config, device: torch.device, runs: int) -> dict[str, Any]:
    """Times steps on the first batch of the training data: student alone, teacher forward, distillation.

    They are alternated in every run, so that other work on the machine affects them equally. `both in a row` is the
    teacher's forward pass and then the student's step: it can take longer than their sum, since a cache holds one
    network, not two. A step is data preprocessing, forward, loss, backward and AdamW. Weights are random; all links
    have their full weight. Where links are not in every iteration (`every`), the step is the mean over the number of
    iterations after which all of them repeat.

    Raises:
        InputError: the config is not that of a student and a teacher.
    """
    prepare_cpu()  # as a training does
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    if not all(config.model.get(key) for key in ('student', 'teacher', 'links')):
        raise InputError(
            f'{config.filename} is not a distillation: expected a model with student, teacher and links, such as in '
            'configs/bev_distill'
        )
    torch.manual_seed(0)
    settings = copy.deepcopy(config.model)
    for link in settings.links.values():
        for key in ('start', 'ramp', 'decay_start', 'decay', 'decay_to'):
            link.pop(key, None)
    teacher = MODELS.build(settings.teacher).to(device)
    settings.teacher = teacher
    distiller = MODELS.build(settings).to(device).train()
    student = copy.deepcopy(distiller.student).train()
    loader = PerceptionRunner.build_dataloader({**config.train_dataloader, 'num_workers': 0}, 0)
    batch = next(iter(loader))
    views = {key: value for key, value in batch.items() if key != 'teacher'}
    step, forward = _step(student, views), _forward(teacher.eval(), batch.get('teacher', views))
    steps = {
        'student step ms': step,
        'teacher forward ms': forward,
        'both in a row ms': lambda: (forward(), step()),
        'distillation step ms': _step(distiller, batch),
    }
    period = math.lcm(*(link.schedule.every for link in distiller.links.values()))
    medians = _medians(steps, runs, period)
    parts = {
        'more than the sum': medians['student step ms'] + medians['teacher forward ms'],
        'more than in a row': medians['both in a row ms'],
    }
    return medians | {name: f'{medians["distillation step ms"] / ms - 1:+.1%}' for name, ms in parts.items()}


def _medians(steps: Mapping[str, Callable[[], Any]], runs: int, period: int) -> dict[str, float]:
    """Returns, by the names of `steps`, the mean over the `period` of the medians of `runs` times in milliseconds."""
    counter = MessageHub.get_current_instance()
    times: dict[str, list[list[float]]] = {name: [[] for _ in range(period)] for name in steps}
    try:
        # The first runs allocate, and learn where the teacher may stop.
        for iteration in range(-2 * period, runs * period):
            counter.update_info('iter', iteration % period)
            for name, step in steps.items():
                elapsed = elapsed_ms(step)
                if iteration >= 0:
                    times[name][iteration % period].append(elapsed)
    finally:
        counter.update_info('iter', 0)
    return {name: statistics.fmean(map(statistics.median, phases)) for name, phases in times.items()}


def _step(model: Any, batch: Mapping[str, Any]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)

    def step() -> None:
        losses = model(**model.data_preprocessor(dict(batch), True), mode='loss')
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def _forward(model: BaseModel, batch: Mapping[str, Any]) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad():
            data = model.data_preprocessor(dict(batch), False)
            model(data['inputs'], data['data_samples'], mode='tensor')

    return forward


def _measure(config: Config, settings: Settings) -> Tables:
    return {'One training step': [benchmark_distill(config, settings.device, settings.runs)]}


BENCHMARKS = {'distill': _measure}
