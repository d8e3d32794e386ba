"""Drawing primitives: points, lines, polygons, texts and rasters, each with the classes that give it its colours.

Structures make them (`Structure.primitives`), painters put them on a canvas or into a 3D window. Coordinates are those
of the view they were made for: pixels (u, v) of a camera or BEV view, metres of the LiDAR frame in a 3D view.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Style:
    """How a primitive is painted.

    Attributes:
        size_px: side of a point.
        thickness_px: of lines.
        dash_px: lengths of dash and gap; None: solid lines.
        halo: a dark line underneath, which keeps a line legible on any background.
        arrow: every line ends in an arrow head.
        opacity: of polygons and rasters, 0..1.
        brightness: factor on the colours of 3D views, 0..1.
        text_px: height of capitals.
        plate: 0..1, how much the box behind a text is darkened.
    """

    size_px: int = 2
    thickness_px: int = 1
    dash_px: tuple[float, float] | None = None
    halo: bool = False
    arrow: bool = False
    opacity: float = 1.0
    brightness: float = 1.0
    text_px: float = 9.0
    plate: float = 0.0


@dataclass(frozen=True)
class StructureStyle:
    """How everything of one source is drawn, so that ground truth and predictions differ in every view.

    Attributes:
        thickness_px: of lines.
        dash_px: lengths of dash and gap; None: solid lines.
        opacity: of faces in a camera view, 0..1.
        bev_opacity: of footprints in a BEV view, 0..1.
        brightness: factor on the colours of 3D views, 0..1.
    """

    thickness_px: int = 1
    dash_px: tuple[float, float] | None = None
    opacity: float = 0.3
    bev_opacity: float = 0.0
    brightness: float = 1.0


class Painter(Protocol):
    """Paints primitives; `primitive.paint_with(painter)` calls the method that fits."""

    def points(self, primitive: Points) -> None:
        """Paints points."""

    def lines(self, primitive: Lines) -> None:
        """Paints line segments."""

    def polygons(self, primitive: Polygons) -> None:
        """Paints filled convex polygons."""

    def texts(self, primitive: Texts) -> None:
        """Writes texts."""

    def raster(self, primitive: Raster) -> None:
        """Paints a map of values."""


@dataclass(frozen=True)
class _Classed:
    """What all primitives have; `labels` index `classes`, a label outside them means an unknown class."""

    labels: npt.NDArray[Any]
    classes: tuple[str, ...]
    style: Style = field(default_factory=Style, kw_only=True)

    @property
    def class_names(self) -> list[str]:
        """The class name of every element, 'other' where the label is unknown."""
        return [self.classes[k] if 0 <= k < len(self.classes) else 'other' for k in np.ravel(self.labels).tolist()]


@dataclass(frozen=True)
class Points(_Classed):
    """Points: `positions` (N, D) with `labels` (N,)."""

    positions: npt.NDArray[Any]

    def paint_with(self, painter: Painter) -> None:
        """Paints itself."""
        painter.points(self)


@dataclass(frozen=True)
class Lines(_Classed):
    """Line segments: `segments` (N, 2, D) with `labels` (N,)."""

    segments: npt.NDArray[Any]

    def paint_with(self, painter: Painter) -> None:
        """Paints itself."""
        painter.lines(self)


@dataclass(frozen=True)
class Polygons(_Classed):
    """Filled convex polygons: `corners`, N arrays (M, D), with `labels` (N,); all are mixed with the canvas at once."""

    corners: Any

    def paint_with(self, painter: Painter) -> None:
        """Paints itself."""
        painter.polygons(self)


@dataclass(frozen=True)
class Texts(_Classed):
    """Texts: `texts`, N of them, with their top left corners `positions` (N, D) and `labels` (N,)."""

    positions: npt.NDArray[Any]
    texts: tuple[str, ...]

    def paint_with(self, painter: Painter) -> None:
        """Paints itself."""
        painter.texts(self)


@dataclass(frozen=True)
class Raster(_Classed):
    """A map of values (H, W) in 0..1, painted in the colour of its class, more opaque the higher the value.

    `canvas_from_map` (2, 3) maps (column, row, 1) of the map to pixels; whole numbers are the centres of cells.
    """

    values: npt.NDArray[Any]
    canvas_from_map: npt.NDArray[Any]

    def paint_with(self, painter: Painter) -> None:
        """Paints itself."""
        painter.raster(self)


@dataclass(frozen=True)
class GroundMap:
    """A map over the ground that has a BEV panel of its own, dark at 0 and bright at 1.

    Attributes:
        title: words above the panel.
        values: (X, Y) in 0..1; the first axis runs along x and the second along y of the LiDAR frame.
        range_m: (x0, y0, x1, y1) that the map covers, metres.
    """

    title: str
    values: npt.NDArray[Any]
    range_m: tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageMap:
    """A map over an image that has a panel of its own, dark at 0 and bright at 1.

    Attributes:
        title: words above the panel.
        values: (H, W) in 0..1, rows and columns.
        stored_from_map: (3, 3), cells of the map to pixels of the image on disk, (0, 0) the corner of both; None: it is
            stretched over the image.
        camera: whose image it is; None: the only one.
    """

    title: str
    values: npt.NDArray[Any]
    stored_from_map: npt.NDArray[Any] | None = None
    camera: str | None = None


Primitive = Points | Lines | Polygons | Texts | Raster
