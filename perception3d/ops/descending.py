"""The order of the values of each row, largest first, on the CPU in about a quarter of the time of `torch.sort`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from perception3d.checks import InputError

_BITS = np.uint64(32)
_INDEX = np.uint64(2**32 - 1)


def descending_order(values: Tensor) -> Tensor:
    """Returns the places (R, N) int64 of the values of each row, largest first; equal values in any order.

    Bits of float32 numbers that are not negative grow with the numbers. With the place in the lower half they are one
    integer of 64 bits, which numpy sorts with vector instructions. Other devices use `torch.argsort`.

    Args:
        values: (R, N) float32, none negative; NaN comes first.

    Raises:
        InputError: another type or shape, or a negative number on the CPU.
    """
    if values.dtype != torch.float32 or values.dim() != 2:
        raise InputError(f'values are {values.dtype} {tuple(values.shape)}: expected float32 of two axes')
    if values.device.type != 'cpu':
        return values.argsort(1, descending=True)
    numbers = values.detach()
    if bool((numbers < 0).any()):
        raise InputError('values hold a negative number: expected 0 or more')
    # The bits of -0.0 are larger than those of any other number.
    numbers = numbers.abs().contiguous()
    keys = numbers.numpy().view(np.uint32).astype(np.uint64) << _BITS
    keys |= np.arange(values.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return torch.from_numpy((keys[:, ::-1] & _INDEX).astype(np.int64))
