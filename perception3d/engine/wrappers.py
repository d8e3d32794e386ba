"""What is inside of wrappers: of models for several processes or test-time augmentation, of data sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def unwrapped(model: Any) -> Any:
    """Returns the network inside of wrappers, which hold it as `module`."""
    return unwrapped(model.module) if hasattr(model, 'module') else model


def all_datasets(dataset: Any) -> Iterator[Any]:
    """Yields a data set and those inside of it, which wrappers hold as `dataset` or `datasets`."""
    yield dataset
    for part in _inside(dataset):
        yield from all_datasets(part)


def base_datasets(dataset: Any) -> Iterator[Any]:
    """Yields the data sets inside of wrappers, which are not wrappers themselves."""
    return (part for part in all_datasets(dataset) if not _inside(part))


def _inside(dataset: Any) -> list[Any]:
    # The attributes of the object itself: some wrappers answer for what is inside of them.
    own = getattr(dataset, '__dict__', {})
    parts = [own.get('dataset'), *(own.get('datasets') or ())]
    return [part for part in parts if part is not None]
