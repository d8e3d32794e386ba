"""Size and speed of a detector: parameters, multiply-accumulates, latency of one sample."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from perception3d.apis.benchmark import median_ms, peak_memory
from perception3d.checks import InputError
from perception3d.engine.runner import PerceptionRunner
from perception3d.registry import MODELS


def benchmark_model(config: Config, device: torch.device, runs: int) -> dict[str, Any]:
    """Measures the model of `config` on the first sample of its test data, with random weights.

    GMACs are half of the floating point operations of all convolutions and matrix products of the network without
    decoding, as torch's counter sees them: gathers, norms and samplings at points are not in it. The latency is that of
    `predict`, boxes included, batch 1, without loading the data.

    Raises:
        InputError: the config has no test data.
    """
    if 'test_dataloader' not in config:
        raise InputError(f'{config.filename} has no test_dataloader: there is no sample to measure with')
    init_default_scope(config.get('default_scope', 'mmdet3d'))
    torch.manual_seed(0)
    model = MODELS.build(config.model).to(device).eval()
    loader = PerceptionRunner.build_dataloader({**config.test_dataloader, 'num_workers': 0, 'batch_size': 1}, 0)
    batch = model.data_preprocessor(pseudo_collate([loader.dataset[0]]), False)
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model(**batch, mode='tensor')
        with peak_memory(device) as memory:
            latency = median_ms(lambda: model(**batch, mode='predict'), device, runs, warm_up=2)
    return {
        'parameters, M': sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        'GMACs': counter.get_total_flops() / 2e9,
        'latency ms': latency,
        'peak MiB': memory['peak_mib'],
    }
