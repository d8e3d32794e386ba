"""What a device computes in hardware."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Says whether the device multiplies bfloat16 in hardware; where it is emulated it is many times slower."""
    if device.type == 'cuda':
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return _processor_has_bfloat16()


def fast_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Returns `dtype`, or float32 where the device multiplies `dtype` without instructions for it."""
    halves = {torch.bfloat16: has_bfloat16(device), torch.float16: device.type != 'cpu'}
    return dtype if halves.get(dtype, True) else torch.float32


@cache
def _processor_has_bfloat16() -> bool:
    flags = Path('/proc/cpuinfo')
    words = set(flags.read_text().split()) if flags.is_file() else set()
    return bool(words & {'avx512_bf16', 'amx_bf16', 'bf16'})
