"""Training whose every step is a function of the seed and the iteration, so that a killed run can go on exactly.

The data order comes from (seed, epoch), the augmentation of a sample from (seed, epoch, place in the epoch), and the
random numbers inside the model from (seed, iteration). Neither the number of workers nor a restart changes any of them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS, LOOPS
from mmengine.runner import EpochBasedTrainLoop


class Draw(int):
    """The index of a sample, with the place at which the sampler drew it: the seed of its augmentation."""

    place: tuple[int, ...] = ()

    def __new__(cls, index: int, place: tuple[int, ...] = ()) -> Draw:
        draw = super().__new__(cls, index)
        draw.place = place
        return draw

    def __reduce__(self) -> tuple[Any, ...]:
        return Draw, (int(self), self.place)


@DATA_SAMPLERS.register_module()
class ResumableSampler(DefaultSampler):
    """mmengine's DefaultSampler whose indices carry their place, and which can begin in the middle of an epoch."""

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True) -> None:
        super().__init__(dataset, shuffle=shuffle, seed=seed, round_up=round_up)
        self.start = 0

    def skip(self, num_samples: int) -> None:
        """Leaves out the first `num_samples` of the next pass, and of that alone."""
        self.start = num_samples

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        places = itertools.count()
        draws = (
            Draw(index, (self.seed, self.epoch, self.rank + place * self.world_size))
            for index, place in zip(super().__iter__(), places)
        )
        return itertools.islice(draws, start, None)


class SeededDataset(torch.utils.data.Dataset):
    """A dataset that seeds python's and numpy's random numbers from the place of each draw before it loads the sample.

    Everything else is asked of the dataset inside, so that hooks and metrics see its metainfo and methods.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        place = getattr(index, 'place', ())
        if place:
            seed = np.random.SeedSequence(place).generate_state(2)
            np.random.seed(seed[0])
            random.seed(int(seed[1]))
            torch.manual_seed(int(seed[0]))
        return self.dataset[int(index)]

    def __deepcopy__(self, memo: dict[int, Any]) -> SeededDataset:
        # mmengine copies the settings of a data loader; the data set among them is read only and may be large.
        return self

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)


@LOOPS.register_module()
class ResumableEpochTrainLoop(EpochBasedTrainLoop):
    """mmengine's epoch loop that goes on in the middle of an epoch, where the checkpoint was written."""

    def run_epoch(self) -> None:
        """Runs one epoch, or what is left of it after a resume."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for idx, data_batch in self._batches_left(self._iter - self._epoch * len(self.dataloader)):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches_left(self, done: int) -> Iterator[tuple[int, Any]]:
        """Yields the batches of this epoch from number `done` on, without loading those before it."""
        size = len(self.dataloader)
        if done >= size:
            return
        if done > 0 and hasattr(self.dataloader.sampler, 'skip'):
            self.dataloader.sampler.set_epoch(self._epoch)
            self.dataloader.sampler.skip(done * self.dataloader.batch_size)
            yield from zip(range(done, size), self.dataloader)
        else:
            yield from enumerate(self.dataloader)

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Runs one iteration; the random numbers inside the model depend on the seed and the iteration alone."""
        torch.manual_seed((self.runner.seed or 0) * 1_000_003 + self._iter)
        super().run_iter(idx, data_batch)
