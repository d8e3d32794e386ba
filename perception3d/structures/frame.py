"""A sensor frame: camera images, points, matrices, and the axes of the LiDAR frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, unknown_name

_TEXTS = {
    (1, 0): 'x forward, y left',
    (0, 1): 'x right, y forward',
    (-1, 0): 'x backward, y right',
    (0, -1): 'x left, y backward',
}


@dataclass(frozen=True)
class LidarAxes:
    """The axes of the LiDAR frame of a data set; z is up.

    Attributes:
        forward: the axis along which the ego vehicle drives, (1, 0) for x, (0, 1) for y, and so on; x by default, as in
            mmdet3d and most LiDAR data sets.
        only_ahead: only what is in front of the ego vehicle is annotated, as in KITTI with its one camera.
    """

    forward: tuple[int, int] = (1, 0)
    only_ahead: bool = False

    def __post_init__(self) -> None:
        if tuple(self.forward) not in _TEXTS:
            raise InputError(f'forward {self.forward}: expected one of {", ".join(map(str, _TEXTS))}')
        object.__setattr__(self, 'forward', tuple(self.forward))

    @property
    def text(self) -> str:
        """The axes in words, such as 'x forward, y left'; data sets state them so in `metainfo['lidar_axes']`."""
        return _TEXTS[self.forward]

    @classmethod
    def from_text(cls, text: str, only_ahead: bool = False) -> LidarAxes:
        """Returns the axes that a text such as 'x forward, y left' states.

        Raises:
            InputError: an unknown text.
        """
        for forward, words in _TEXTS.items():
            if text == words:
                return cls(forward, only_ahead)
        raise unknown_name('lidar_axes', text, _TEXTS.values())


X_FORWARD = LidarAxes((1, 0))
"""KITTI's LiDAR frame: x forward, y left."""
Y_FORWARD = LidarAxes((0, 1))
"""nuScenes' LiDAR frame: x right, y forward."""


@dataclass(frozen=True)
class SensorFrame:
    """The sensor data of one point in time, in one LiDAR frame.

    Attributes:
        images: camera name -> (H, W, 3) uint8 BGR; any number, sizes may differ.
        img_from_lidar: camera name -> (4, 4) or (3, 4), metres of the LiDAR frame to the pixels of this image,
            augmentation included; (0, 0) is the corner of the image. It may hold cameras without an image. Empty of
            images alone: data without a LiDAR, whose structures are all in pixels.
        points: (N, 3 or more) x, y, z in metres, or None. Rows that are not finite are not drawn.
        axes: those of the LiDAR frame.
        img_from_stored: camera name -> (3, 3), pixels of the image on disk to those of this image; without it they are
            the same. Structures in pixels count in the image on disk.
        stored_wh: camera name -> width and height of the image on disk, pixels; without it those of this image.
    """

    images: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    img_from_lidar: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    points: npt.NDArray[Any] | None = None
    axes: LidarAxes = X_FORWARD
    img_from_stored: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    stored_wh: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, image in self.images.items():
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
                raise InputError(f'image {name!r} is {image.shape} {image.dtype}: give (H, W, 3) uint8 in BGR order')
            if self.img_from_lidar and name not in self.img_from_lidar:
                raise InputError(f'image {name!r} has no img_from_lidar matrix: give one for each image')
        for name, matrix in self.img_from_lidar.items():
            shape = np.shape(matrix)
            if shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
                raise InputError(f'img_from_lidar of {name!r}: expected finite (4, 4) or (3, 4), got {shape}')
        for name, matrix in self.img_from_stored.items():
            if np.shape(matrix) != (3, 3) or not np.isfinite(matrix).all():
                raise InputError(f'img_from_stored of {name!r}: expected finite (3, 3), got {np.shape(matrix)}')
        if self.points is not None and (np.ndim(self.points) != 2 or np.shape(self.points)[1] < 3):
            raise InputError(f'points: expected (N, 3 or more), got {np.shape(self.points)}')

    @property
    def has_images_alone(self) -> bool:
        """Whether it is of images without a LiDAR: nothing in metres can be drawn in it."""
        return bool(self.images) and not self.img_from_lidar and self.points is None
