"""Intervals of scores by the bootstrap over sequences: frames of one sequence resemble each other and stay together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_INTERVAL_PERCENT = (2.5, 97.5)


@dataclass(frozen=True)
class Ratio:
    """A score that is a sum over sequences divided by another one.

    above, below: (S,) the sums of each sequence; unit: 100 for percent.
    """

    above: npt.NDArray[Any]
    below: npt.NDArray[Any]
    unit: float = 1.0

    @property
    def value(self) -> float | None:
        """The score of all sequences; None where there is nothing to count."""
        return known(self.of(np.ones((1, len(self.above))))[0])

    def of(self, weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the score (R,) with each sequence as often as weights (R, S) say; NaN where nothing is to count."""
        above, below = weights @ self.above, weights @ self.below
        return np.divide(above * self.unit, below, out=np.full(len(above), np.nan), where=below > 0)


def sequence_weights(sequences: int, samples: int, seed: int) -> npt.NDArray[np.int64]:
    """Returns how often each bootstrap sample draws each sequence: (R, S), sums of S; no row for a single sequence."""
    if sequences < 2:
        return np.zeros((0, sequences), np.int64)
    drawn = np.random.default_rng(seed).multinomial(sequences, np.full(sequences, 1 / sequences), samples)
    return np.asarray(drawn, np.int64)


def intervals(samples: Mapping[str, npt.NDArray[Any]]) -> Iterator[tuple[str, list[float]]]:
    """Yields the path and [2.5 percent, 97.5 percent] of those scores (R,) that are known in all bootstrap samples."""
    for path, values in samples.items():
        if len(values) and np.isfinite(values).all():
            low, high = np.percentile(values, _INTERVAL_PERCENT)
            yield path, [float(low), float(high)]


def known(value: float) -> float | None:
    """Returns the number, or None for NaN."""
    return float(value) if np.isfinite(value) else None
