"""Lane networks against SCNN: parameters, multiply-accumulates and latency, both measured in turns."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from perception3d.benchmark import Settings, Tables
from perception3d.benchmark.timing import elapsed_ms
from perception3d.checks import InputError
from perception3d.engine.cpu import prepare_cpu
from perception3d.models.inference.acceleration import accelerate
from perception3d.models.lane.row_decoder import RowDecoder
from perception3d.models.lane.scnn import SCNN
from perception3d.models.lane.segmentor import LaneSegmentor
from perception3d.registry import MODELS


def benchmark_lanes(config: Config, device: torch.device, runs: int) -> dict[str, Any]:
    """Compares the model of `config` with SCNN for the same lanes and input, with random weights, batch 1, in float32.

    `network ms` is the time from a normalised image to logits, `fast` that after `accelerate` (`--fast` of other
    commands), `predict ms` the time from a uint8 image to lanes in the stored image. Calls of the two networks follow
    each other, so that other work on the machine slows both; the ratios are those of the medians. A distilled model is
    its student.

    Raises:
        InputError: the model has no lane network.
    """
    prepare_cpu()
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    settings = config.model.get('student', config.model)
    # A detector of lanes has its size itself.
    net = settings.get('net', settings)
    if 'input_hw' not in net or 'decoder' not in settings:
        raise InputError(f'{config.filename} is not a lane config: its model has no decoder of lanes, or no input_hw')
    torch.manual_seed(0)
    # As a whole: a Distiller predicts by its student.
    own = MODELS.build(copy.deepcopy(config.model)).to(device).eval()
    rival = MODELS.build(_rival(settings, net, net.get('num_lanes') or len(config.class_names))).to(device).eval()
    batch = _batch(net.input_hw)
    models = {'own': own, 'SCNN': rival}
    with torch.no_grad():
        sizes = {name: _size(model, batch) for name, model in models.items()}
        predict = _in_turns(models, batch, 'predict', runs)
        plain = _in_turns(models, batch, 'tensor', runs)
        fast = _in_turns({name: accelerate(model) for name, model in models.items()}, batch, 'tensor', runs)
    height, width = net.input_hw
    row: dict[str, Any] = {'input': f'{width}x{height}', 'threads': torch.get_num_threads()}
    for title, values in (
        ('parameters, M', {name: size[0] for name, size in sizes.items()}),
        ('GMACs', {name: size[1] for name, size in sizes.items()}),
        ('network ms', plain), ('network ms, fast', fast), ('predict ms', predict),
    ):  # fmt: skip
        row |= {title: values['own'], f'{title}, SCNN': values['SCNN']}
        row[f'{title}, SCNN / own'] = values['SCNN'] / values['own']
    return row


def _rival(settings: Any, net: Any, num_lanes: int) -> dict[str, Any]:
    """The config of SCNN for the same lanes and input; its decoder is CULane's where the other has no maps of slots."""
    rival = dict(type=SCNN, num_lanes=num_lanes, input_hw=net.input_hw, exist=net.get('exist', True))
    has_slots = 'num_lanes' in net and 'net' in settings
    return dict(
        type=LaneSegmentor,
        net=rival,
        losses={},
        decoder=copy.deepcopy(settings.decoder) if has_slots else dict(type=RowDecoder),
        data_preprocessor=copy.deepcopy(settings.data_preprocessor),
    )


def _batch(input_hw: tuple[int, int]) -> dict[str, Any]:
    """An image of noise, which fills the whole stored image."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *input_hw), generator=generator, dtype=torch.uint8)
    meta = dict(img_from_stored=np.eye(4)[None], stored_hw=[tuple(input_hw)])
    return {'inputs': {'img': [image]}, 'data_samples': [Det3DDataSample(metainfo=meta)]}


def _size(model: Any, batch: Mapping[str, Any]) -> tuple[float, float]:
    """Millions of parameters, and giga-multiply-accumulates of convolutions and linear layers."""
    data = model.data_preprocessor(dict(batch), False)
    with FlopCounterMode(display=False) as counter:
        model(**data, mode='tensor')
    return sum(value.numel() for value in model.parameters()) / 1e6, counter.get_total_flops() / 2e9


def _in_turns(models: Mapping[str, Any], batch: Mapping[str, Any], mode: str, runs: int) -> dict[str, float]:
    """Medians of the models in milliseconds, after two calls of each."""
    times: dict[str, list[float]] = {name: [] for name in models}
    data = {name: model.data_preprocessor(dict(batch), False) for name, model in models.items()}
    for run in range(runs + 2):
        for name, model in models.items():
            elapsed = elapsed_ms(partial(_call, model, batch, data[name], mode))
            times[name] += [elapsed] if run > 1 else []
    return {name: statistics.median(values) for name, values in times.items()}


def _call(model: Any, batch: Mapping[str, Any], data: Mapping[str, Any], mode: str) -> None:
    if mode == 'predict':
        data = model.data_preprocessor(dict(batch), False)
    model(**data, mode=mode)


def _measure(config: Config, settings: Settings) -> Tables:
    return {'Next to SCNN': [benchmark_lanes(config, settings.device, settings.runs)]}


BENCHMARKS = {'lane': _measure}
