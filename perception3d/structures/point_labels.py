"""A class, and maybe an object, for each point of a cloud; and which of the predicted classes are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.structures.base import Structure, checked, checked_classes, count_labels
from perception3d.structures.frame import SensorFrame
from perception3d.structures.primitives import Points, Primitive, StructureStyle, Style
from perception3d.structures.views import BevView, CameraView, RangeView, View3D

IGNORE = 255
"""The label of points that are not labelled: outside of the class names, never trained on and never predicted."""
WRONG = 'wrong'
"""The class, and so the colour, of points whose predicted label is not the annotated one."""
# Points farther away than this, in x or y, do not widen a BEV view: they are few.
_FAR_POINT_M = 80.0


@dataclass(frozen=True)
class PointLabels(Structure):
    """Labels of points.

    Attributes:
        labels: (N,) index into the class names; a point whose index lies outside them, such as IGNORE, is not drawn.
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

    def of_points(self, count: int | None) -> PointLabels:
        """Returns the labels of the first `count` points; None stands for all."""
        instances = None if self.instances is None else self.instances[:count]
        points = None if self.points is None else self.points[:count]
        return replace(self, labels=self.labels[:count], instances=instances, points=points)

    @property
    def needs_points(self) -> bool:
        """Whether the labels have no points of their own."""
        return self.points is None

    @property
    def has_scores(self) -> bool:
        """Labels have no scores."""
        return False

    @property
    def has_outlines(self) -> bool:
        """Labels colour points."""
        return False

    @property
    def has_points(self) -> bool:
        """Whether the labels have points of their own."""
        return self.points is not None

    def against(self, truth: Sequence[Structure]) -> Structure:
        """Returns the wrong points alone, where `truth` has labels of the same points; otherwise itself."""
        for structure in truth:
            if isinstance(structure, PointLabels) and self._is_of_the_points_of(structure):
                return PointErrors(self, structure, classes=self.classes)
        return self

    def _is_of_the_points_of(self, other: PointLabels) -> bool:
        if self.points is None or other.points is None or self.classes != other.classes:
            return False
        # A network and an info file may keep coordinates in other precisions.
        return self.points.shape == other.points.shape and np.allclose(self.points, other.points, atol=1e-3)

    def footprints(self) -> npt.NDArray[Any]:
        """Returns two corners (2, 2) around almost all points with a known label within 80 m; (0, 2) without any."""
        xy = self._known()[0][:, :2]
        xy = xy[(np.abs(xy) < _FAR_POINT_M).all(axis=1)]
        return np.quantile(xy, (0.005, 0.995), axis=0) if len(xy) else np.zeros((0, 2))

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

    def in_range(self, view: RangeView, style: StructureStyle) -> list[Primitive]:
        """Returns the points in view, far ones first."""
        points, labels = self._known()
        pixels, kept = view.points(points)
        return [Points(labels[kept], self.classes, pixels, style=Style(size_px=view.size_px))]

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns the points."""
        points, labels = self._known()
        return [Points(labels, self.classes, points, style=Style(size_px=2, brightness=style.brightness))]


@dataclass(frozen=True)
class PointErrors(Structure):
    """The points whose predicted label is not the annotated one, as pictures show them over the ground truth.

    Points without a known annotated label are not compared. It counts as the prediction does, and the wrong points as
    the class 'wrong'.

    Attributes:
        prediction: labels with points and class names.
        truth: labels of the same points.

    Raises:
        InputError: they are of different numbers of points.
    """

    name: ClassVar[str] = 'point_errors'
    prediction: PointLabels
    truth: PointLabels

    def __post_init__(self) -> None:
        if len(self.prediction) != len(self.truth):
            raise InputError(f'{len(self.prediction)} predicted labels came with {len(self.truth)} annotated ones')
        object.__setattr__(self, 'classes', (*self.prediction.classes, WRONG))

    @property
    def has_scores(self) -> bool:
        """Labels have no scores."""
        return False

    @property
    def has_outlines(self) -> bool:
        """Labels colour points."""
        return False

    @property
    def has_points(self) -> bool:
        """Whether the prediction has points of its own."""
        return self.prediction.has_points

    @property
    def wrong(self) -> PointLabels:
        """The wrong points, all of the class 'wrong'."""
        truth = self.truth.labels
        known = (truth >= 0) & (truth < len(self.prediction.classes))
        chosen = known & (truth != self.prediction.labels)
        points = None if self.prediction.points is None else self.prediction.points[chosen]
        return PointLabels(np.zeros(int(chosen.sum()), np.int64), points=points, classes=(WRONG,))

    def footprints(self) -> npt.NDArray[Any]:
        """Returns those of the prediction."""
        return self.prediction.footprints()

    def counts(self) -> npt.NDArray[Any]:
        """Returns the number of predicted points of each class, then that of the wrong points."""
        return np.append(self.prediction.counts()[:-1], [len(self.wrong), 0])

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns the wrong points in view."""
        return self.wrong.in_camera(view, style)

    def in_bev(self, view: BevView, style: StructureStyle) -> list[Primitive]:
        """Returns the wrong points in view, a pixel larger than others, since there may be few."""
        return [
            replace(points, style=replace(points.style, size_px=points.style.size_px + 1))
            for points in self.wrong.in_bev(view, style)
        ]

    def in_range(self, view: RangeView, style: StructureStyle) -> list[Primitive]:
        """Returns all points in view as they are predicted: range views of truth and prediction stand side by side."""
        return self.prediction.in_range(view, style)

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns the wrong points."""
        return self.wrong.in_3d(view, style)
