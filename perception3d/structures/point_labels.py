"""A class, and maybe an object, for each point of a cloud."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.structures.base import Structure, checked, checked_classes, count_labels
from perception3d.structures.frame import SensorFrame
from perception3d.structures.primitives import Points, Primitive, StructureStyle, Style
from perception3d.structures.views import BevView, CameraView, View3D


@dataclass(frozen=True)
class PointLabels(Structure):
    """Labels of points.

    Attributes:
        labels: (N,) index into the class names; a point whose index lies outside them is not drawn.
        instances: (N,) which object a point belongs to, 0 for none, or None where objects are not separated.
        points: (N, 3) metres in the LiDAR frame, or None: the points of the frame, see `for_frame`.

    Raises:
        InputError: shapes do not fit, or a number is not whole or not finite.
    """

    name: ClassVar[str] = 'point_labels'
    labels: npt.NDArray[Any]
    instances: npt.NDArray[Any] | None = None
    points: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        labels = checked('point labels', self.labels, (None,), np.int64)
        object.__setattr__(self, 'labels', labels)
        if self.instances is not None:
            instances = checked('instances of points', self.instances, (len(labels),), np.int64)
            object.__setattr__(self, 'instances', instances)
        if self.points is not None:
            points = checked('points of labels', self.points, (len(labels), 3), np.float64)
            object.__setattr__(self, 'points', points)
        object.__setattr__(self, 'classes', checked_classes('point labels', self.classes))

    def __len__(self) -> int:
        return len(self.labels)

    def for_frame(self, frame: SensorFrame) -> PointLabels:
        """Returns itself with the points of the frame, where it has none.

        Raises:
            InputError: the frame has another number of points.
        """
        if self.points is not None or frame.points is None:
            return self
        if len(frame.points) != len(self):
            raise InputError(
                f'{len(self)} point labels came with {len(frame.points)} points: expected one label for each point'
            )
        xyz = np.asarray(frame.points, np.float64)[:, :3]
        finite = np.isfinite(xyz).all(axis=1)
        instances = None if self.instances is None else self.instances[finite]
        return replace(self, labels=self.labels[finite], instances=instances, points=xyz[finite])

    def counts(self) -> npt.NDArray[Any]:
        """Returns the number of points of each class; points without a class, which are not drawn, do not count."""
        return np.append(count_labels(self.labels, len(self.classes))[:-1], 0)

    def _known(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The points (M, 3) with a known label, and these labels."""
        if self.points is None:
            return np.zeros((0, 3)), np.zeros(0, np.int64)
        known = (self.labels >= 0) & (self.labels < len(self.classes))
        return self.points[known], self.labels[known]

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns the points in view, far ones first."""
        points, labels = self._known()
        pixels, kept = view.points(points)
        size = max(1, round(4 * view.scale))
        return [Points(labels[kept], self.classes, pixels, style=Style(size_px=size))]

    def in_bev(self, view: BevView, style: StructureStyle) -> list[Primitive]:
        """Returns the points in view, low ones first, so that what sticks out of the ground is what one sees."""
        points, labels = self._known()
        inside = view.contains(points[:, :2])
        points, labels = points[inside], labels[inside]
        order = np.argsort(points[:, 2], kind='stable')
        pixels = view.to_pixels(points[order, :2])
        return [Points(labels[order], self.classes, pixels, style=Style(size_px=2))]

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns the points."""
        points, labels = self._known()
        return [Points(labels, self.classes, points, style=Style(size_px=2, brightness=style.brightness))]
