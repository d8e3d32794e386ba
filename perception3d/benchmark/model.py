"""Size and speed of a detector: parameters, multiply-accumulates, latency of one sample."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from perception3d.benchmark import Settings, Tables
from perception3d.benchmark.timing import median_ms, peak_memory
from perception3d.checks import InputError
from perception3d.compat.spconv_pairs import count_pairs, sparse_convolutions
from perception3d.engine.agreement import check_model_and_data
from perception3d.engine.cpu import limit_blas_threads
from perception3d.engine.runner import PerceptionRunner
from perception3d.models.lidar_det.network_mode import network_mode
from perception3d.registry import MODELS


def benchmark_model(config: Config, device: torch.device, runs: int) -> dict[str, Any]:
    """Measures the model of `config` on the first sample of its test data, with random weights.

    GMACs are half of the floating point operations of all convolutions and matrix products of the network without
    decoding, as torch's counter sees them, and those of sparse convolutions on this sample (on a CPU, where spconv
    lists its pairs; elsewhere GMACs are NaN, with a warning). Gathers, norms and samplings at points do not count. The
    latency is that of `predict`, boxes included, batch 1, without loading the data.

    Raises:
        InputError: the config has no test data.
    """
    limit_blas_threads()
    if 'test_dataloader' not in config:
        raise InputError(f'{config.filename} has no test_dataloader: there is no sample to measure with')
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    torch.manual_seed(0)
    model = MODELS.build(config.model).to(device).eval()
    loader = PerceptionRunner.build_dataloader({**config.test_dataloader, 'num_workers': 0, 'batch_size': 1}, 0)
    check_model_and_data(model, loader.dataset, 'test_dataloader')
    batch = model.data_preprocessor(pseudo_collate([loader.dataset[0]]), False)
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter, SparseMacs(model) as sparse:
            model(**batch, mode=network_mode(model))
        with peak_memory(device) as memory:
            latency = median_ms(lambda: model(**batch, mode='predict'), runs, warm_up=2)
    return {
        'parameters, M': sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        'GMACs': counter.get_total_flops() / 2e9 + sparse.total / 1e9,
        'latency ms': latency,
        'peak MiB': memory['peak_mib'],
    }


class SparseMacs:
    """Counts multiply-accumulates of the spconv convolutions of a model in a `with` block: pairs x inputs x outputs.

    Where spconv convolves without a list of pairs (its implicit GEMM, on a GPU), `total` becomes NaN, with a warning.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.total: float = 0

    def __enter__(self) -> SparseMacs:
        self._hooks = [module.register_forward_hook(self._count) for module in sparse_convolutions(self.model)]
        return self

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()

    def _count(self, module: Any, inputs: tuple[Any], output: Any) -> None:
        pairs = count_pairs(module, output)
        if pairs is None:
            if not math.isnan(self.total):
                warnings.warn('spconv lists no pairs here: count multiply-accumulates on the CPU', stacklevel=2)
            self.total = math.nan
            return
        self.total += pairs * module.in_channels * module.out_channels


def _measure(config: Config, settings: Settings) -> Tables:
    return {'One sample': [benchmark_model(config, settings.device, settings.runs)]}


BENCHMARKS = {'model': _measure}
