"""Tensors in nested tuples, lists and dicts: the form in which submodules return several outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yields all tensors in a nested value, in its order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_of(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_of(item)


def with_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Returns a nested value in which `function` was applied to each tensor; all other values stay."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: with_tensors(function, item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [with_tensors(function, item) for item in value]
        return type(value)(*items) if hasattr(value, '_fields') else type(value)(items)
    return value
