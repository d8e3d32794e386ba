"""What the values of weights and of an optimizer's state must be, so that a model can compute and train with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from perception3d.checks import InputError


def is_finite(value: torch.Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinite values; True where it has no values in memory."""
    if value.device.type == 'meta' or value.layout != torch.strided or not value.is_floating_point():
        return True
    value = _computable(value)
    # A sum is 15 times as fast as a test of each value. It may overflow: then each value is tested.
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())


def holds_nan(value: torch.Tensor) -> bool:
    """Whether a tensor holds NaN."""
    return not is_finite(value) and bool(_computable(value).isnan().any())


def _computable(value: torch.Tensor) -> torch.Tensor:
    # torch computes nothing with 8-bit floats.
    return value.float() if value.element_size() == 1 else value


def weight_faults(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> list[str]:
    """Returns a text for each tensor of `state` that cannot be a weight where `own`, of the model, has one.

    Sparse tensors; integers in place of floats, and the other way round: torch would cast them without a warning.
    Infinite values, except where the model itself has them, as in the buffer of a mask. Variances below zero.
    """
    faults = []
    for name in [name for name in state if name in own]:
        value, wanted = state[name], own[name]
        if value.layout != wanted.layout:
            got, expected = (str(tensor.layout).removeprefix('torch.') for tensor in (value, wanted))
            faults.append(f'{name} {got} instead of {expected}')
        elif value.is_floating_point() != wanted.is_floating_point():
            got, expected = (str(tensor.dtype).removeprefix('torch.') for tensor in (value, wanted))
            faults.append(f'{name} {got} instead of {expected}')
        elif not is_finite(value) and is_finite(wanted):
            faults.append(f'{name} with infinite values')
        elif name.endswith('running_var') and value.device.type != 'meta' and bool((_computable(value) < 0).any()):
            faults.append(f'{name} with a variance below zero')
    return faults


def non_finite(content: Any, name: str) -> str | None:
    """Returns the dotted name of the first tensor in nested dicts and lists that is NaN or infinite."""
    if isinstance(content, torch.Tensor):
        return None if is_finite(content) else name
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(content, Mapping):
        items = content.items()
    elif isinstance(content, (list, tuple)):
        items = enumerate(content)
    return next((broken for key, value in items if (broken := non_finite(value, f'{name}.{key}'))), None)


def check_converging(model: nn.Module, where: str, what: str = 'model') -> None:
    """Raises InputError if a parameter of `model` is not finite or a buffer is NaN; names the first such tensor.

    Args:
        where: the file that is not written then, for the error.
        what: the model, for the error.
    """
    faults = [name for name, value in model.named_parameters() if not is_finite(value.detach())]
    faults = faults or [name for name, value in model.named_buffers() if holds_nan(value)]
    if faults:
        raise InputError(
            f'training has diverged: the tensor {faults[0]} of the {what} holds NaN or infinite values, so {where} is '
            'not written and the checkpoint before it is kept: lower the learning rate or clip the gradients'
        )
