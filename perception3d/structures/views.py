"""The views a sample is drawn in, and how coordinates of the LiDAR frame and of images get into each.

A view and a structure meet in `view.primitives_of(structure, style)`: the view calls the structure's method for views
of its own sort, so that a further view or structure needs no list of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from perception3d.checks import InputError
from perception3d.geometry.frustum import clip_polygon, clip_segments, frustum, to_homogeneous
from perception3d.geometry.range_image import RangeImage
from perception3d.structures.primitives import Primitive, StructureStyle


class Drawable(Protocol):
    """What a view needs of a structure."""

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a camera view, in pixels."""

    def in_bev(self, view: BevView, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a BEV view, in pixels."""

    def in_range(self, view: RangeView, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a range view, in pixels."""

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a 3D view, in metres."""


class View(Protocol):
    """What a structure needs of a view."""

    def primitives_of(self, structure: Drawable, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a structure in this view."""


@dataclass(frozen=True)
class CameraView:
    """A camera image on a canvas; whole numbers of pixels are pixel centres.

    Attributes:
        name: of the camera; structures in image coordinates are drawn in the view of their camera.
        canvas_from_lidar: (3, 4) or (4, 4), metres of the LiDAR frame to homogeneous pixels of the canvas; None for an
            image without a LiDAR, in which only structures in pixels can be drawn.
        width_px: of the canvas.
        height_px: of the canvas.
        canvas_from_img: (3, 3), pixels of the image as stored (corner of the first pixel at 0) to pixels of the canvas.
        scale: size of texts; 1.0 suits a picture 1920 pixels wide.
        image_wh: width and height of the image as stored, pixels.
    """

    name: str
    canvas_from_lidar: npt.NDArray[Any] | None
    width_px: int
    height_px: int
    canvas_from_img: npt.NDArray[Any] = field(
        default_factory=lambda: np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
    )
    scale: float = 1.0
    image_wh: tuple[int, int] | None = None

    @property
    def planes(self) -> npt.NDArray[Any]:
        """The half spaces (5, 4) of what the canvas shows, see `geometry.frustum`."""
        return frustum(self.width_px, self.height_px)

    def homogeneous(self, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Maps points (..., 3) in metres to homogeneous pixels (..., 3), the last one the depth in metres.

        Raises:
            InputError: the image has no LiDAR.
        """
        if self.canvas_from_lidar is None:
            raise InputError(
                f'image {self.name!r} has no img_from_lidar, so that what is in metres cannot be drawn in it: give one'
            )
        return to_homogeneous(points, self.canvas_from_lidar)

    def segments(self, ends: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Returns segments (N, 2, 3) in metres as (M, 2, 2) pixels, and the indices (M,) of those in view."""
        return clip_segments(self.homogeneous(ends), self.planes)

    def polygon(self, corners: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the part in view of a convex polygon (N, 3) in metres as (M, 2) pixels; M may be 0."""
        return clip_polygon(self.homogeneous(corners), self.planes)

    def points(self, xyz: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Returns points (N, 3) in metres as (M, 2) pixels, far ones first, and the indices (M,) of those in view."""
        homogeneous = self.homogeneous(xyz)
        inside = (homogeneous @ self.planes[:, :3].T + self.planes[:, 3] >= 0).all(axis=1)
        kept = np.flatnonzero(inside)
        kept = kept[np.argsort(-homogeneous[kept, 2], kind='stable')]
        return homogeneous[kept, :2] / homogeneous[kept, 2:], kept

    @property
    def affine(self) -> npt.NDArray[Any]:
        """`canvas_from_img` (2, 3), float64."""
        return np.asarray(self.canvas_from_img, np.float64)[:2]

    def image_points(self, uv: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Maps pixels (..., 2) of the image as stored to pixels of the canvas."""
        pixels: npt.NDArray[Any] = np.asarray(uv, np.float64) @ self.affine[:, :2].T + self.affine[:, 2]
        return pixels

    def shows(self, camera: str | None) -> bool:
        """Whether it is the view of a camera; None stands for the only one."""
        return camera is None or camera == self.name

    def primitives_of(self, structure: Drawable, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a structure in this view."""
        return structure.in_camera(self, style)


@dataclass(frozen=True)
class BevView:
    """A rectangle of the ground plane as seen from above, the LiDAR at (0, 0), the vehicle driving upwards.

    Attributes:
        right_m: the left and the right border, metres to the right of the LiDAR (negative: to its left).
        ahead_m: the lower and the upper border, metres ahead of the LiDAR (negative: behind it).
        width_px: width in pixels; the height follows.
        forward: (x, y) of the axis of the LiDAR frame along which the vehicle drives, of length 1; its left is a
            quarter turn counter-clockwise.
        scale: size of texts; 1.0 suits a picture 1920 pixels wide.
        with_texts: scores and ids are written.
        with_motion: arrows of motion are drawn.
    """

    right_m: tuple[float, float]
    ahead_m: tuple[float, float]
    width_px: int
    forward: tuple[float, float] = (0.0, 1.0)
    scale: float = 1.0
    with_texts: bool = True
    with_motion: bool = True

    @property
    def px_per_m(self) -> float:
        """Pixels that one metre takes."""
        return self.width_px / (self.right_m[1] - self.right_m[0])

    @property
    def height_px(self) -> int:
        """Height in pixels."""
        return round((self.ahead_m[1] - self.ahead_m[0]) * self.px_per_m)

    def to_map(self, xy: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Maps (..., 2) metres along x and y of the LiDAR frame to (..., 2) metres (to the right, ahead)."""
        xy, (x, y) = np.asarray(xy, np.float64), self.forward
        return np.stack([xy[..., 0] * y - xy[..., 1] * x, xy[..., 0] * x + xy[..., 1] * y], axis=-1)

    def map_to_pixels(self, right_ahead: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Maps (..., 2) metres (to the right, ahead) to (..., 2) pixels, see `to_pixels`."""
        right_ahead = np.asarray(right_ahead, np.float64)
        u = (right_ahead[..., 0] - self.right_m[0]) * self.px_per_m - 0.5
        v = (self.ahead_m[1] - right_ahead[..., 1]) * self.px_per_m - 0.5
        return np.stack([u, v], axis=-1)

    def to_pixels(self, xy: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Maps (..., 2) metres to (..., 2) pixels (u right, v down); whole numbers are pixel centres."""
        return self.map_to_pixels(self.to_map(xy))

    def contains(self, xy: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns a mask (...) of the points (..., 2) in metres that lie strictly inside."""
        right_ahead = self.to_map(xy)
        low, high = np.array([self.right_m, self.ahead_m]).T
        inside: npt.NDArray[Any] = ((right_ahead > low) & (right_ahead < high)).all(axis=-1)
        return inside

    def primitives_of(self, structure: Drawable, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a structure in this view."""
        return structure.in_bev(self, style)


@dataclass(frozen=True)
class RangeView:
    """What the LiDAR sees around it: to the right the direction, downwards the angle below the horizon.

    Attributes:
        image: the range image, of which a pixel is a pixel of the canvas.
        size_px: side of a point.
    """

    image: RangeImage
    size_px: int = 3

    def points(self, xyz: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Returns points (N, 3) in metres as (M, 2) pixels, far ones first, and the indices (M,) of those in view."""
        points = torch.from_numpy(np.ascontiguousarray(xyz, np.float64))
        kept = np.flatnonzero(self.image.contains(points).numpy())
        kept = kept[np.argsort(-np.linalg.norm(xyz[kept], axis=1), kind='stable')]
        rows_columns = self.image.coordinates(points[kept]).numpy()
        return rows_columns[:, ::-1] - 0.5, kept

    def primitives_of(self, structure: Drawable, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a structure in this view."""
        return structure.in_range(self, style)


def square_view(half_range_m: float, size_px: int, forward: tuple[float, float] = (0.0, 1.0)) -> BevView:
    """Returns the view of a square, `half_range_m` to each side of the LiDAR, `size_px` pixels wide."""
    half = (-half_range_m, half_range_m)
    return BevView(half, half, size_px, forward)


@dataclass(frozen=True)
class View3D:
    """The scene in space: coordinates stay metres of the LiDAR frame."""

    def primitives_of(self, structure: Drawable, style: StructureStyle) -> list[Primitive]:
        """Returns the primitives of a structure in this view."""
        return structure.in_3d(self, style)
