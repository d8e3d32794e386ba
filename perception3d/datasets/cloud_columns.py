"""The ranges of the columns of clouds, and which of them cannot be what their column holds; without torch.

A raw file does not say how many floats a point has. Read with another number of them, it is a cloud all the same
wherever its size allows that, with its columns mixed up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FEATURES_HINT = 'give the floats of a point by --features, or copy the file again'
"""What to do about a cloud that does not fit, for commands that have this option."""
_NAMES = ('x', 'y', 'z', 'intensity')
# Heights that span this share of the shorter side of a cloud, and more, are those of columns that are mixed up.
_TALL = 0.8


@dataclass(frozen=True)
class ColumnRanges:
    """The smallest and the largest value (F,) of each column: x, y, z in metres, intensity, and what else there is."""

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]

    @classmethod
    def of(cls, points: npt.NDArray[np.float32]) -> ColumnRanges:
        """Returns those of a cloud (N, F); of an empty one nothing is smaller or larger."""
        return cls(points.min(0, initial=np.inf), points.max(0, initial=-np.inf))

    @classmethod
    def over(cls, ranges: Iterable[ColumnRanges]) -> ColumnRanges:
        """Returns those of all clouds together, of which there is one at least."""
        every = list(ranges)
        return cls(np.min([one.low for one in every], axis=0), np.max([one.high for one in every], axis=0))

    def lines(self) -> list[str]:
        """Returns a table of text, a line a column."""
        names = [*_NAMES, *(f'column {k + 1}' for k in range(len(_NAMES), len(self.low)))]
        rows = [f'{name:<22}{low:>10.4g}{high:>10.4g}' for name, low, high in zip(names, self.low, self.high)]
        return [f'{"column":<22}{"from":>10}{"to":>10}', *rows]

    def warnings(self) -> list[str]:
        """Returns what cannot be right if the columns are those that their names say; each a line with what to do."""
        if not np.isfinite(self.low).all():
            return []
        fix = f'are {len(self.low)} floats a point right? Set --features to those of the files'
        spans = self.high - self.low
        found = []
        if len(self.low) > 3 and self.low[3] < 0:
            found.append(
                f'intensity goes from {self.low[3]:.4g} to {self.high[3]:.4g}, but sensors give 0 and more: {fix}'
            )
        if spans[2] > _TALL * min(spans[:2]) and spans[2] > 1:
            found.append(
                f'z goes from {self.low[2]:.4g} to {self.high[2]:.4g} m, as far as x ({self.low[0]:.4g} to '
                f'{self.high[0]:.4g} m) or y ({self.low[1]:.4g} to {self.high[1]:.4g} m): {fix}'
            )
        return found
