"""Fixes of the wrappers of data sets of mmengine and mmdet, so that splits can be joined and then balanced by class."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from perception3d.checks import InputError

# The key of metainfo in which the parts of a ConcatDataset may differ.
_SPLIT = 'split'


def join_splits(dataset_wrapper: ModuleType) -> None:
    """Lets ConcatDataset join splits of one data set, and gives the labels of a sample in wrapped data sets.

    mmengine's ConcatDataset refuses parts whose `split` differs. Here its `split` becomes those of its parts, joined
    by '+'. Parts that differ in more, such as the order of the classes, are an InputError.
    """
    joined = dataset_wrapper.ConcatDataset
    if hasattr(joined, 'get_cat_ids'):
        return
    original = joined.__init__

    def __init__(self: Any, datasets: Any, lazy_init: bool = False, ignore_keys: Any = None) -> None:
        keys = [ignore_keys] if isinstance(ignore_keys, str) else list(ignore_keys or ())
        try:
            original(self, datasets, lazy_init, [*keys, _SPLIT])
        except (TypeError, ValueError) as error:
            parts = getattr(self, 'datasets', [])
            differ = _difference([part.metainfo for part in parts], {*keys, _SPLIT})
            if not differ:
                raise
            raise InputError(f'ConcatDataset joins data sets that differ in {differ}') from error
        splits = [part.metainfo.get(_SPLIT) for part in self.datasets]
        if all(splits):
            self._metainfo = {**self._metainfo, _SPLIT: '+'.join(dict.fromkeys(map(str, splits)))}

    def get_cat_ids(self: Any, idx: int) -> set[int]:
        """Returns the labels in a sample, for wrappers that balance classes."""
        place = self._get_ori_dataset_idx(idx)
        dataset, inner = (self.datasets[place[0]], place[1]) if isinstance(place, tuple) else (self.dataset, place)
        return set(dataset.get_cat_ids(inner))

    joined.__init__ = __init__
    for wrapper in (joined, dataset_wrapper.RepeatDataset, dataset_wrapper.ClassBalancedDataset):
        wrapper.get_cat_ids = get_cat_ids


def join_splits_as_mmengine(dataset_wrappers: ModuleType) -> None:
    """Lets mmdet's ConcatDataset join data sets as mmengine's does, see `join_splits`.

    If the splits differ, mmdet's class returns a list of `metainfo`, which models and metrics cannot read.
    """
    joined = dataset_wrappers.ConcatDataset
    from mmengine.dataset import ConcatDataset

    def __init__(self: Any, datasets: Any, lazy_init: bool = False, ignore_keys: Any = None) -> None:
        built = [dataset_wrappers.DATASETS.build(part) if isinstance(part, dict) else part for part in datasets]
        ConcatDataset.__init__(self, built, lazy_init, ignore_keys)
        if not lazy_init:
            self._metainfo = {**self._metainfo, 'cumulative_sizes': self.cumulative_sizes}

    joined.__init__ = __init__


def _difference(metas: list[dict[str, Any]], ignored: set[str]) -> str:
    """Returns the first key in which `metas` differ, with two of its values; '' if they are equal."""
    for meta in metas[1:]:
        for key in sorted({*metas[0], *meta} - ignored):
            values = [m.get(key) for m in (metas[0], meta)]
            if repr(values[0]) != repr(values[1]):
                return f'{key}: {values[0]} and {values[1]}'
    return ''
