"""Image features kept by path, so that a test over an ordered data set computes every image once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perception3d.models.fast_bev.view_transform import FeatureRows


class FeatureCache:
    """Least recently used store of the features of single images; all threads share it. A copy starts empty.

    Args:
        capacity: images kept; a sample's own images are always kept together.
    """

    def __init__(self, capacity: int = 96) -> None:
        self.capacity = capacity
        self.computed = 0
        self._maps: OrderedDict[tuple, list[Tensor]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.capacity,)

    def clear(self) -> None:
        """Forgets everything: to be called when weights change."""
        with self._lock:
            self._maps.clear()

    def rows(
        self,
        images: Tensor,
        paths: Sequence[Sequence[str]],
        frames: int,
        extract: Callable[[Tensor], list[Tensor]],
    ) -> list[FeatureRows]:
        """Returns the levels of `images` (B, F*N, 3, H, W), by `extract` only where `paths` (B, F*N) are new."""
        keys = [(str(path), tuple(images.shape[-2:])) for sample in paths for path in sample]
        flat = images.flatten(0, 1)
        with self._lock:
            needed = {key: self._maps[key] for key in keys if key in self._maps}
        missing = {key: i for i, key in reversed(list(enumerate(keys))) if key not in needed}
        if missing:
            # Without the lock: two threads that miss the same image compute it twice, to the same features.
            maps = extract(flat[sorted(missing.values())])
            for row, key in enumerate(sorted(missing, key=missing.__getitem__)):
                needed[key] = [level[row : row + 1].clone() for level in maps]
        order = {key: i for i, key in enumerate(needed)}
        which = np.array([order[key] for key in keys], np.int64).reshape(len(images), frames, -1)
        self._remember(needed, len(missing))
        return [_stack(list(needed.values()), level, which) for level in range(len(next(iter(needed.values()))))]

    def _remember(self, maps: dict[tuple, list[Tensor]], computed: int) -> None:
        with self._lock:
            self.computed += computed
            for key, value in maps.items():
                self._maps[key] = value
                self._maps.move_to_end(key)
            while len(self._maps) > max(self.capacity, len(maps)):
                self._maps.popitem(last=False)


def _stack(maps: list[list[Tensor]], level: int, which: np.ndarray) -> FeatureRows:
    """Joins single maps [(1, C, H, W)] into rows; `which` (B, F, N) says whose image each entry is."""
    joined = torch.cat([image[level] for image in maps]).contiguous(memory_format=torch.channels_last)
    rows = FeatureRows.from_maps(joined, 1, 1)
    return FeatureRows(rows.rows, rows.hw, which * (rows.hw[0] * rows.hw[1]))
