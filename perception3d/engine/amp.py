"""Automatic mixed precision on any device: bf16 on the CPU, bf16 or fp16 with loss scaling on a GPU."""

from __future__ import annotations

import logging
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

from perception3d.checks import InputError
from perception3d.geometry.devices import has_bfloat16


def warn_of_slow_bfloat16(device: torch.device) -> None:
    """Says once in the log where bf16 costs time instead of saving it."""
    if not has_bfloat16(device):
        text = 'this device has no bf16 instructions: convolutions in bf16 are many times slower than without --amp'
        print_log(text, logger='current', level=logging.WARNING)


@OPTIM_WRAPPERS.register_module()
class MixedPrecisionOptimWrapper(AmpOptimWrapper):
    """mmengine's AmpOptimWrapper, which refuses to run without a GPU, made to run anywhere.

    Args:
        dtype: 'bfloat16' (default) or 'float16'. bf16 has the range of fp32, so that its loss needs no scaling.
        loss_scale: as in AmpOptimWrapper; used with float16 alone.
        **kwargs: as in OptimWrapper (optimizer, clip_grad, accumulative_counts, ...).

    Raises:
        InputError: float16 without a GPU, or another dtype.
    """

    def __init__(self, dtype: str = 'bfloat16', loss_scale: Any = 'dynamic', **kwargs: Any) -> None:
        dtypes = {'bfloat16': torch.bfloat16, 'float16': torch.float16}
        if dtype not in dtypes:
            raise InputError(f'mixed precision with {dtype!r}: choose bfloat16 or float16')
        has_gpu = torch.cuda.is_available()
        if dtype == 'float16' and not has_gpu:
            raise InputError('mixed precision with float16 needs a GPU: choose bfloat16 on the CPU')
        OptimWrapper.__init__(self, **kwargs)
        self.cast_dtype = dtypes[dtype]
        self._scale_update_param = loss_scale if isinstance(loss_scale, float) else None
        scale: dict[str, Any] = {'init_scale': loss_scale} if isinstance(loss_scale, float) else {}
        scale = dict(loss_scale) if isinstance(loss_scale, dict) else scale
        device = 'cuda' if has_gpu else 'cpu'
        if dtype == 'bfloat16':
            warn_of_slow_bfloat16(torch.device(device))
        self.loss_scaler = torch.amp.GradScaler(device, enabled=dtype == 'float16', **scale)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the optimizer and, where it was in use, the loss scale; a run may switch between dtypes on resume."""
        state_dict = dict(state_dict)
        if not (self.loss_scaler.is_enabled() and state_dict.get('loss_scaler')):
            state_dict.pop('loss_scaler', None)
        super().load_state_dict(state_dict)
