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

    Samples are drawn with an own seed: mmdet3d's class uses numpy's global state, which may differ between processes
    and after a resume. Classes without any box are left out: mmdet3d's class divides by zero.

    Args:
        dataset: The data set to draw from, or its config; may be a wrapper, such as ConcatDataset.
        seed: Seed of the draw.
        lazy_init: As of CBGSDataset.
    """

    def __init__(self, dataset: BaseDataset | dict, seed: int = 0, lazy_init: bool = False) -> None:
        self.seed = seed
        # mmdet3d's class does not accept a wrapper, such as ConcatDataset, that is already built.
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self._metainfo = self.dataset.metainfo
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    def _get_sample_indices(self, dataset: BaseDataset) -> list[int]:
        """Draws the same number of samples for each class that occurs.

        With K such classes and n pairs of a sample and a class in it, each class gets n / K samples.
        """
        samples_with: dict[int, list[int]] = {}
        for index in range(len(dataset)):
            for label in dataset.get_cat_ids(index):
                if label >= 0:
                    samples_with.setdefault(label, []).append(index)
        if not samples_with:
            count = getattr(dataset, 'object_count', None)
            reason = None if count is None else count.nothing_to_train_on()
            raise InputError(
                reason or f'{getattr(dataset, "ann_file", "the data set")} has no box of any class to balance'
            )
        count_per_class = sum(map(len, samples_with.values())) // len(samples_with)
        rng = np.random.default_rng(self.seed)
        return [int(i) for label in sorted(samples_with) for i in rng.choice(samples_with[label], count_per_class)]
