"""Maps of values in 0..1, one for each class, on a BEV range or on an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.structures.base import Structure, checked, checked_classes
from perception3d.structures.primitives import Points, Primitive, Raster, StructureStyle, Style
from perception3d.structures.views import BevView, CameraView, View3D

_OPACITY = 0.8
_LEAST_SHOWN = 0.3


@dataclass(frozen=True)
class Heatmaps(Structure):
    """Heatmaps of a grid of the ground, or of an image.

    Attributes:
        values: (K, H, W) in 0..1, one map for each class. On a BEV range the first axis of a map runs along x and the
            second along y of the LiDAR frame; on an image they are rows and columns.
        range_m: (x0, y0, x1, y1) that the maps cover, metres; None for maps on an image.
        camera: whose image it is; None: the only one. Not used with `range_m`.
        stored_from_map: (3, 3), cells of a map on an image to the pixels of the image on disk, (0, 0) the corner of
            both. None: the maps are stretched over all of it.

    Raises:
        InputError: shapes or the range do not fit, or a value is not finite or outside 0..1.
    """

    name: ClassVar[str] = 'heatmaps'
    values: npt.NDArray[Any]
    range_m: tuple[float, float, float, float] | None = None
    camera: str | None = None
    stored_from_map: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        values = checked('heatmaps', self.values, (None, None, None), np.float32)
        if values.size and (values.min() < 0 or values.max() > 1):
            raise InputError(f'heatmaps: expected values in 0..1, got {values.min():g} to {values.max():g}')
        object.__setattr__(self, 'values', values)
        object.__setattr__(self, 'classes', checked_classes('heatmaps', self.classes))
        if self.stored_from_map is not None:
            matrix = checked('stored_from_map of heatmaps', self.stored_from_map, (3, 3), np.float64)
            object.__setattr__(self, 'stored_from_map', matrix)
        if self.range_m is not None:
            x0, y0, x1, y1 = checked('range_m of heatmaps', self.range_m, (4,), np.float64).tolist()
            if x0 >= x1 or y0 >= y1:
                raise InputError(f'range_m of heatmaps: expected (x0, y0, x1, y1), low before high, got {self.range_m}')
            object.__setattr__(self, 'range_m', (x0, y0, x1, y1))

    @classmethod
    def of_logits(cls, logits: Any, range_m: Sequence[float]) -> Heatmaps:
        """Returns one map, the best class score of every cell, of class logits (K, X, Y), a tensor."""
        best = logits.detach().float().amax(0).sigmoid().cpu().numpy()
        x0, y0, x1, y1 = map(float, range_m)
        return cls(best[None], (x0, y0, x1, y1))

    def on_network_image(self, img_from_stored: npt.NDArray[Any], img_hw: Sequence[int]) -> Heatmaps:
        """Returns maps of the whole image that entered the network, placed on the image on disk.

        Args:
            img_from_stored: (3, 3), pixels of the image on disk to those of the network's image.
            img_hw: height and width of the network's image.
        """
        rows, columns = self.values.shape[1:]
        img_from_map = np.diag([img_hw[1] / columns, img_hw[0] / rows, 1.0])
        return replace(self, stored_from_map=np.linalg.inv(img_from_stored) @ img_from_map)

    def footprints(self) -> npt.NDArray[Any]:
        """Returns the corners of the range."""
        return np.zeros((0, 2)) if self.range_m is None else np.reshape(self.range_m, (2, 2))

    def best(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Returns the greatest value (H, W) over the classes, and whose it is (H, W)."""
        if not self.values.size:
            return np.zeros(self.values.shape[1:], np.float32), np.zeros(self.values.shape[1:], np.int64)
        return self.values.max(axis=0), self.values.argmax(axis=0)

    def _rasters(self, canvas_from_map: npt.NDArray[Any]) -> list[Primitive]:
        look = Style(opacity=_OPACITY)
        return [
            Raster(np.array([k]), self.classes, values, canvas_from_map, style=look)
            for k, values in enumerate(self.values)
            if values.size and values.max() > 0
        ]

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns the maps of this camera's image."""
        if self.range_m is not None or not view.shows(self.camera) or view.image_wh is None or not self.values.size:
            return []
        return self._rasters(self.canvas_from_map(view))

    def canvas_from_map(self, view: CameraView) -> npt.NDArray[Any]:
        """Returns the matrix (2, 3) from (column, row, 1) of a map on an image to the pixels of its view."""
        return canvas_from_image_map(view, self.stored_from_map, self.values.shape[1:])

    def in_bev(self, view: BevView, style: StructureStyle) -> list[Primitive]:
        """Returns the maps of a BEV range."""
        if self.range_m is None or not self.values.size:
            return []
        return self._rasters(canvas_from_cells(view, self.range_m, self.values.shape[1:]))

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns the middles of the cells of a BEV range with a value of 0.3 or more, at the height of the LiDAR."""
        if self.range_m is None or not self.values.size:
            return []
        best, labels = self.best()
        low, high = np.split(np.array(self.range_m), 2)
        shown = np.argwhere(best >= _LEAST_SHOWN)
        xy = low + (shown + 0.5) * (high - low) / best.shape
        points = np.column_stack([xy, np.zeros(len(xy))])
        look = Style(size_px=3, brightness=style.brightness)
        return [Points(labels[tuple(shown.T)], self.classes, points, style=look)]


def canvas_from_cells(view: BevView, range_m: Sequence[float], shape: Sequence[int]) -> npt.NDArray[Any]:
    """Returns the matrix (2, 3) from (column, row, 1) of a map (X, Y) over `range_m` to the pixels of a BEV view."""
    low, high = np.split(np.asarray(range_m, np.float64), 2)
    cell = (high - low) / shape
    # The first cell and its neighbours along x and y give the place of all others.
    first, along_x, along_y = view.to_pixels(low + cell * [[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]])
    # As a picture, the columns of the map run along y.
    return np.column_stack([along_y - first, along_x - first, first])


def canvas_from_image_map(
    view: CameraView, stored_from_map: npt.NDArray[Any] | None, shape: Sequence[int]
) -> npt.NDArray[Any]:
    """Returns the matrix (2, 3) from (column, row, 1) of a map (H, W) on an image to the pixels of its view.

    Args:
        view: of the image.
        stored_from_map: as of `Heatmaps`.
        shape: H and W.
    """
    rows, columns = shape
    width, height = view.image_wh or (columns, rows)
    place = np.diag([width / columns, height / rows, 1.0]) if stored_from_map is None else stored_from_map
    cells = np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]])
    first, right, down = view.image_points(cells @ place[:2, :2].T + place[:2, 2])
    return np.column_stack([right - first, down - first, first])
