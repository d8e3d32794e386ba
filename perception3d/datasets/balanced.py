"""Class-balanced sampling that is the same in every process and works where a class is absent."""

from __future__ import annotations

import numpy as np
from mmdet3d.datasets import CBGSDataset
from mmengine.dataset import BaseDataset

from perception3d.checks import InputError
from perception3d.registry import DATASETS


@DATASETS.register_module()
class SeededCBGSDataset(CBGSDataset):
    """mmdet3d's CBGSDataset (class-balanced grouping and sampling, arXiv 1908.09492, section 3.1) with two fixes.

    Samples are drawn with a seed of their own: the stock class draws from numpy's global state, which may differ
    between processes and after a resume. Classes without any box are left out: the stock class divides by zero.

    Args:
        dataset: The data set to draw from, or its config; also joined or repeated ones.
        seed: Seed of the draw.
        lazy_init: As of CBGSDataset.
    """

    def __init__(self, dataset: BaseDataset | dict, seed: int = 0, lazy_init: bool = False) -> None:
        self.seed = seed
        # The stock class takes no wrapper, such as a ConcatDataset, that is already built.
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self._metainfo = self.dataset.metainfo
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    def _get_sample_indices(self, dataset: BaseDataset) -> list[int]:
        """Draws, for every class that occurs, equally many samples that contain it.

        With K classes present and n the summed number of (sample, class) pairs, each class gets n / K samples.
        """
        holders: dict[int, list[int]] = {}
        for index in range(len(dataset)):
            for label in dataset.get_cat_ids(index):
                if label >= 0:
                    holders.setdefault(label, []).append(index)
        if not holders:
            count = getattr(dataset, 'object_count', None)
            reason = None if count is None else count.nothing_to_train_on()
            raise InputError(
                reason or f'{getattr(dataset, "ann_file", "the data set")} has no box of any class to balance'
            )
        each = sum(map(len, holders.values())) // len(holders)
        rng = np.random.default_rng(self.seed)
        return [int(index) for label in sorted(holders) for index in rng.choice(holders[label], each)]
