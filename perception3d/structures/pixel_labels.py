"""A class for every pixel of an image, such as a mask of lanes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.structures.base import Structure, checked, checked_classes, count_labels
from perception3d.structures.primitives import Primitive, Raster, StructureStyle, Style
from perception3d.structures.views import CameraView

_OPACITY = 0.4


@dataclass(frozen=True)
class PixelLabels(Structure):
    """The class of each pixel of an image, or of a part of it.

    Attributes:
        labels: (H, W) index into the class names; -1 and other numbers without a class: background or ignored.
        stored_from_mask: (3, 3), pixels of the mask to those of the image on disk, (0, 0) the corner of both. None: the
            mask is stretched over the whole image.
        camera: whose image it is; None: the only one.

    Raises:
        InputError: shapes do not fit.
    """

    name: ClassVar[str] = 'pixel_labels'
    labels: npt.NDArray[Any]
    stored_from_mask: npt.NDArray[Any] | None = None
    camera: str | None = None

    def __post_init__(self) -> None:
        labels = checked('labels of pixels', self.labels, (None, None), np.int64)
        matrix = self.stored_from_mask
        if matrix is not None:
            matrix = checked('stored_from_mask', matrix, (3, 3), np.float64)
        for name, value in (
            ('labels', labels), ('stored_from_mask', matrix), ('classes', checked_classes('pixels', self.classes)),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    @classmethod
    def of_lane_mask(cls, mask: npt.NDArray[Any], stored_from_mask: npt.NDArray[Any] | None = None) -> PixelLabels:
        """Returns the labels of a lane mask (H, W): 0 background, 1 + slot, 255 ignored.

        Raises:
            InputError: it is not (H, W), with 1 in front or not.
        """
        mask = np.asarray(mask)
        if mask.ndim == 3 and len(mask) == 1:
            mask = mask[0]
        if mask.ndim != 2:
            raise InputError(f'lane_mask: expected (H, W) or (1, H, W), got {mask.shape}')
        labels = mask.astype(np.int64) - 1
        return cls(np.where(labels == 254, -1, labels), stored_from_mask)

    @property
    def has_scores(self) -> bool:
        """Labels have no scores."""
        return False

    @property
    def has_outlines(self) -> bool:
        """Labels tint pixels."""
        return False

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns a tint of the pixels of each class."""
        if not view.shows(self.camera) or not self.labels.size:
            return []
        place = np.eye(3)
        place[:2] = view.affine
        if self.stored_from_mask is not None:
            place = place @ self.stored_from_mask
        elif view.image_wh is not None:
            rows, columns = self.labels.shape
            place = place @ np.diag([view.image_wh[0] / columns, view.image_wh[1] / rows, 1.0])
        # The middle of the first pixel of the mask is half a pixel from its corner.
        canvas_from_map = place[:2] @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        known = np.unique(self.labels)
        return [
            Raster(np.array([k]), self.classes, self.labels == k, canvas_from_map, style=Style(opacity=_OPACITY))
            for k in known[(known >= 0) & (known < max(len(self.classes), 1))].tolist()
        ]

    def describe(self) -> dict[str, Any]:
        """Returns how many pixels each class has: the mask itself is a picture, not a list of numbers."""
        counts = count_labels(self.labels.ravel(), len(self.classes)).tolist()
        return {self.name: dict(zip(self.classes, counts))}
