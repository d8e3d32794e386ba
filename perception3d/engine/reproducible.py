"""Training whose every step is a function of the seed and the iteration, so that a killed run is resumed exactly.

The data order comes from (seed, epoch), the augmentation of a sample from (seed, epoch, place in the epoch), and the
random numbers inside the model from (seed, iteration). Neither the number of workers nor a restart changes any of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS, LOOPS
from mmengine.runner import EpochBasedTrainLoop

from perception3d.engine.resuming import batch_size


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
    """mmengine's DefaultSampler whose indices carry their place, and which can begin in the middle of an epoch.

    The order of an epoch depends on the seed and the epoch alone: processes take its samples in turn, so that neither
    their number nor the batch size changes which samples come first.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True) -> None:
        super().__init__(dataset, shuffle=shuffle, seed=seed, round_up=round_up)
        self.start = 0

    def begin_at(self, num_samples: int) -> None:
        """Leaves out the first `num_samples` (of all processes together) in the next pass, and only in that one."""
        self.start = num_samples

    def left(self, num_samples: int) -> int:
        """How many samples this process draws in an epoch after the first `num_samples` of all processes."""
        return len(self._places(num_samples))

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        length = len(self.dataset)
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        drawn = torch.randperm(length, generator=generator) if self.shuffle else torch.arange(length)
        order = drawn.tolist()
        return (Draw(order[place % length], (self.seed, self.epoch, place)) for place in self._places(start))

    def _places(self, start: int) -> range:
        """The places of this process in the order of an epoch, from place `start` on."""
        length = len(self.dataset)
        missing = -(length - start) % self.world_size if self.round_up and start < length else 0
        return range(min(start, length), length + missing)[self.rank :: self.world_size]


class SeededDataset(torch.utils.data.Dataset):
    """A data set that seeds Python's and numpy's random numbers from the place of each draw before it loads the sample.

    All other attributes are those of the data set inside, so that hooks and metrics see its metainfo and methods.
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
    """mmengine's epoch loop that is resumed in the middle of an epoch, where the checkpoint was written."""

    # Batch of the epoch, and samples of all processes before it, with which a resumed run begins.
    _begin = (0, 0)

    def start_at(self, samples: int) -> None:
        """Begins the epoch of a resumed run after its first `samples`; the number of the iteration follows.

        A sampler that cannot begin in the middle repeats the epoch.
        """
        size = len(self.dataloader)
        sampler = self.dataloader.sampler
        if hasattr(sampler, 'begin_at'):
            batch, left = batch_size(self.dataloader), sampler.left(samples)
            self._begin = size - (left // batch if self.dataloader.drop_last else -(-left // batch)), samples
        else:
            self._begin = 0, 0
        self._iter = self._epoch * size + self._begin[0]

    def samples_after(self, epoch: int, iteration: int) -> int:
        """How many samples of `epoch` all processes together have seen after `iteration` iterations in all."""
        batch, samples = self._begin if epoch == self._epoch else (0, 0)
        done = iteration - epoch * len(self.dataloader) - batch
        samples += done * batch_size(self.dataloader) * self.runner.world_size
        return min(samples, len(self.dataloader.dataset))

    def run_epoch(self) -> None:
        """Runs one epoch, or what is left of it after a resume."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for idx, data_batch in self._batches_left():
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self._begin = (0, 0)

    def _batches_left(self) -> Iterator[tuple[int, Any]]:
        """Yields the batches of this epoch that are left, numbered up to its length, without loading those before."""
        size, (first, samples) = len(self.dataloader), self._begin
        if first >= size:
            return
        if samples:
            self.dataloader.sampler.set_epoch(self._epoch)
            self.dataloader.sampler.begin_at(samples)
        yield from zip(range(first, size), self.dataloader)

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Runs one iteration; the random numbers inside the model depend on the seed and the iteration alone."""
        torch.manual_seed((self.runner.seed or 0) * 1_000_003 + self._iter)
        super().run_iter(idx, data_batch)
