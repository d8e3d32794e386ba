"""Maps over an image that explain a prediction, such as where features are strong, each drawn in a panel of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.structures.base import Structure, checked
from perception3d.structures.primitives import ImageMap


@dataclass(frozen=True)
class ImageMaps(Structure):
    """Maps of numbers of 0 or more over one image, which may have cells of different sizes.

    Attributes:
        titles: K texts, one a map.
        values: K arrays (H_k, W_k), 0 or more, rows and columns. The largest value of a map is drawn brightest.
        stored_from_img: (3, 3), pixels of the image that the maps cover to those of the image on disk, (0, 0) the
            corner of both. None: they cover the image on disk.
        img_hw: height and width in pixels of the image that the maps cover; needed with `stored_from_img`.
        camera: whose image it is; None: the only one.

    Raises:
        InputError: the numbers of maps and titles differ, a value is negative or not finite, or `img_hw` is missing.
    """

    name: ClassVar[str] = 'image_maps'
    titles: tuple[str, ...]
    values: tuple[npt.NDArray[Any], ...]
    stored_from_img: npt.NDArray[Any] | None = None
    img_hw: tuple[int, int] | None = None
    camera: str | None = None

    def __post_init__(self) -> None:
        titles = tuple(map(str, self.titles))
        values = tuple(checked(f'image map {k}', each, (None, None), np.float32) for k, each in enumerate(self.values))
        if len(titles) != len(values):
            raise InputError(f'image maps: got {len(titles)} titles and {len(values)} maps: give one each a map')
        for title, each in zip(titles, values):
            if not each.size or each.min() < 0:
                raise InputError(f'image map {title!r}: expected cells, all with values of 0 or more')
        matrix, size = self.stored_from_img, self.img_hw
        if matrix is not None:
            matrix = checked('stored_from_img of image maps', matrix, (3, 3), np.float64)
            if size is None:
                raise InputError('image maps: stored_from_img is of an image whose size is img_hw: give both')
        if size is not None:
            size = (int(size[0]), int(size[1]))
        for key, value in (('titles', titles), ('values', values), ('stored_from_img', matrix), ('img_hw', size)):
            object.__setattr__(self, key, value)

    @property
    def has_scores(self) -> bool:
        """Maps have no scores."""
        return False

    @property
    def has_outlines(self) -> bool:
        """Maps have no outlines."""
        return False

    def image_maps(self) -> Sequence[ImageMap]:
        """Returns the maps, each divided by its largest value."""
        return [ImageMap(title, self._shares(each), self._stored_from_map(each), self.camera)
                for title, each in zip(self.titles, self.values)]  # fmt: skip

    @staticmethod
    def _shares(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        highest = float(values.max())
        shares: npt.NDArray[Any] = values / highest if highest > 0 else values
        return shares

    def _stored_from_map(self, values: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        if self.stored_from_img is None or self.img_hw is None:
            return None
        placed: npt.NDArray[Any] = self.stored_from_img @ np.diag(
            [self.img_hw[1] / values.shape[1], self.img_hw[0] / values.shape[0], 1.0]
        )
        return placed

    def describe(self) -> dict[str, Any]:
        """Returns nothing: thousands of numbers are no result for readers."""
        return {}
