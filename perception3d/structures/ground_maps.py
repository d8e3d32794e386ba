"""Maps over the ground that explain a prediction, such as the density of people, each drawn in a panel of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.structures.base import Structure, checked
from perception3d.structures.primitives import GroundMap


@dataclass(frozen=True)
class GroundMaps(Structure):
    """Maps of numbers of 0 or more, which may have cells of different sizes, over one range.

    Attributes:
        titles: K texts, one a map.
        values: K arrays (X_k, Y_k), 0 or more; the first axis runs along x, the second along y of the LiDAR frame.
        highs: K numbers above 0: the values that are drawn brightest; larger ones are, too.
        range_m: (x0, y0, x1, y1) that every map covers, metres.

    Raises:
        InputError: the numbers of maps, titles and highs differ, a value is negative or not finite, or the range is
            empty.
    """

    name: ClassVar[str] = 'ground_maps'
    titles: tuple[str, ...]
    values: tuple[npt.NDArray[Any], ...]
    highs: tuple[float, ...]
    range_m: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        titles = tuple(map(str, self.titles))
        values = tuple(checked(f'map {k}', each, (None, None), np.float32) for k, each in enumerate(self.values))
        highs = tuple(float(high) for high in self.highs)
        if not len(titles) == len(values) == len(highs):
            raise InputError(
                f'ground maps: got {len(titles)} titles, {len(values)} maps and {len(highs)} highs: give one each a map'
            )
        for title, each, high in zip(titles, values, highs):
            if not high > 0 or (each.size and each.min() < 0):
                raise InputError(f'ground map {title!r}: expected values of 0 or more, and a value above 0 as its high')
        x0, y0, x1, y1 = checked('range_m of ground maps', self.range_m, (4,), np.float64).tolist()
        if x0 >= x1 or y0 >= y1:
            raise InputError(f'range_m of ground maps: expected (x0, y0, x1, y1), low before high, got {self.range_m}')
        for key, value in (('titles', titles), ('values', values), ('highs', highs), ('range_m', (x0, y0, x1, y1))):
            object.__setattr__(self, key, value)

    @property
    def has_scores(self) -> bool:
        """Maps have no scores."""
        return False

    @property
    def has_outlines(self) -> bool:
        """Maps have no outlines."""
        return False

    def footprints(self) -> npt.NDArray[Any]:
        """Returns the corners of the range."""
        return np.reshape(self.range_m, (2, 2))

    def maps(self) -> Sequence[GroundMap]:
        """Returns the maps, divided by their highs and cut at 1."""
        return [
            GroundMap(title, (each / high).clip(0, 1), self.range_m)
            for title, each, high in zip(self.titles, self.values, self.highs)
        ]

    def describe(self) -> dict[str, Any]:
        """Returns nothing: a hundred thousand numbers are no result for readers."""
        return {}
