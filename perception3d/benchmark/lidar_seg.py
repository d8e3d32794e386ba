"""Segmentation networks on one scan: time and memory of the phases of a step and of inference, and of their parts."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from perception3d.benchmark import Settings, Tables
from perception3d.benchmark.model import SparseMacs
from perception3d.benchmark.timing import PartTimer, elapsed_ms, median_ms, peak_memory
from perception3d.engine.cpu import prepare_cpu
from perception3d.engine.runner import PerceptionRunner
from perception3d.models.inference.acceleration import accelerate
from perception3d.registry import MODELS
from perception3d.workers import process_pool


def benchmark_segmentation(config: Config, device: torch.device, runs: int) -> Tables:
    """Measures the model of `config` with random weights on the first scan of its training data, in float32.

    The tables: a training step of batch 1 by its phases, `maps` being the voxels and the maps between points and
    voxels; inference without loading, plain and prepared (`--fast`); and by parts of the network the time of inference
    and the memory that a training keeps for the backward pass. Peak memory on a CPU is that of the process, with what
    was measured before in it: the command measures each config in a process of its own.
    Multiply-accumulates of sparse convolutions and of dense layers are counted apart.
    """
    prepare_cpu()  # as a training does
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(config.model)).to(device)
    loader = PerceptionRunner.build_dataloader({**config.train_dataloader, 'num_workers': 0, 'batch_size': 1}, 0)
    # The augmentation of a training draws from numpy.
    np.random.seed(0)
    batch = pseudo_collate([loader.dataset[0]])
    step, inference = _training_step(model, batch, device, runs), _inference(model, batch, device, runs)
    # The timer of parts is the last, since the model stays wrapped.
    kept, times = _kept_by_parts(model, batch), _times_of_parts(model, batch, runs)
    return {
        'One training step': [step],
        'Inference': [inference],
        # A row for each part: networks have other parts.
        'Parts of the network': [
            {'part': name, 'inference ms': times.get(name, '-'), 'kept for the backward pass, MiB': size}
            for name, size in kept.items()
        ],
    }


def _training_step(model: Any, batch: dict[str, Any], device: torch.device, runs: int) -> dict[str, Any]:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    kept: dict[str, Any] = {}

    def losses() -> None:
        kept['loss'], _ = model.parse_losses(model(**kept['batch'], mode='loss'))

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    phases: dict[str, Callable[[], Any]] = {
        'maps': lambda: kept.update(batch=model.data_preprocessor(dict(batch), True)),
        'forward': losses,
        'backward': lambda: kept['loss'].backward(),
        'update': update,
    }
    times: dict[str, list[float]] = {name: [] for name in phases}
    with peak_memory(device) as memory:
        # The first run compiles kernels and makes the optimizer's state.
        for run in range(runs + 1):
            for name, phase in phases.items():
                elapsed = elapsed_ms(phase)
                times[name] += [elapsed] if run else []
    medians = {name: statistics.median(values) for name, values in times.items()}
    total = sum(medians.values())
    voxels = kept['batch']['inputs']['voxels']
    return {
        'points': len(voxels.features),
        'voxels': len(voxels.coords),
        'step ms': total,
        **{f'{name} ms': value for name, value in medians.items()},
        'maps, share': f'{medians["maps"] / total:.1%}',
        'peak MiB': memory['peak_mib'],
    }


def _inference(model: Any, batch: dict[str, Any], device: torch.device, runs: int) -> dict[str, Any]:
    model.eval()
    fast = copy.deepcopy(model)
    accelerate(fast)
    with torch.no_grad():
        data = model.data_preprocessor(dict(batch), False)
        with FlopCounterMode(display=False) as dense, SparseMacs(model) as sparse:
            model(**data, mode='tensor')
        with peak_memory(device) as memory:
            plain = median_ms(lambda: _predict(model, batch), runs, warm_up=2)
        prepared = median_ms(lambda: _predict(fast, batch), runs, warm_up=2)
    return {
        'latency ms': plain,
        'latency ms, --fast': prepared,
        'peak MiB': memory['peak_mib'],
        'sparse GMACs': sparse.total / 1e9,
        'dense GMACs': dense.get_total_flops() / 2e9,
        'parameters, M': sum(parameter.numel() for parameter in model.parameters()) / 1e6,
    }


def _predict(model: Any, batch: dict[str, Any]) -> None:
    model(**model.data_preprocessor(dict(batch), False), mode='predict')


def _parts(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """Yields the direct parts of the network; a list of modules, which is not called itself, one by one."""
    for name, child in model.net.named_children():
        for part in child if isinstance(child, nn.ModuleList) else [child]:
            yield name, part


def _times_of_parts(model: Any, batch: dict[str, Any], runs: int) -> dict[str, float]:
    """Medians over `runs`; the parts of a list are added up."""
    model.eval()
    timer = PartTimer()
    timer.wrap(model.data_preprocessor, 'forward', 'maps')
    for k, (name, part) in enumerate(_parts(model)):
        timer.wrap(part, 'forward', f'{name}.{k}')
    with torch.no_grad():
        _predict(model, batch)
        timer.reset()
        for _ in range(runs):
            _predict(model, batch)
    sums: dict[str, float] = {}
    for key, value in timer.medians_ms().items():
        name = key.partition('.')[0]
        sums[name] = sums.get(name, 0.0) + value
    return sums


def _kept_by_parts(model: Any, batch: dict[str, Any]) -> dict[str, float]:
    """Bytes of tensors that autograd keeps, each counted once, in the part that kept it first."""
    model.train()
    kept, current, known = {'maps': 0, 'losses and the rest': 0}, ['losses and the rest'], set()

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # Parameters are there anyway.
        if not (tensor.is_leaf and tensor.requires_grad) and storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            kept[current[-1]] = kept.get(current[-1], 0) + storage.nbytes()
        return tensor

    handles = []
    for name, part in _parts(model):
        handles.append(part.register_forward_pre_hook(lambda *_, name=name: current.append(name)))
        handles.append(part.register_forward_hook(lambda *_: current.pop() and None))
    data = model.data_preprocessor(dict(batch), True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model(**data, mode='loss')
    for handle in handles:
        handle.remove()
    del losses
    return {name: size / 2**20 for name, size in kept.items()}


def _measure(config: Config, settings: Settings) -> Tables:
    # The peak of this process would hold what earlier configs have left.
    with process_pool(1) as pool:
        return pool.submit(benchmark_segmentation, config, settings.device, settings.runs).result()


BENCHMARKS = {'lidar_seg': _measure}
