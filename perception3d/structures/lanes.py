"""Lanes and other lines on the road as polylines, in an image or in the LiDAR frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.structures.base import Structure, checked, checked_classes, count_labels
from perception3d.structures.primitives import Lines, Primitive, StructureStyle, Style
from perception3d.structures.views import BevView, CameraView, View3D


@dataclass(frozen=True)
class Lanes(Structure):
    """Polylines.

    Attributes:
        polylines: N arrays, all (M, 2) pixels (u, v) of an image, (0, 0) its corner, or all (M, 3) metres of the LiDAR
            frame; M is 2 or more.
        labels: (N,) index into the class names.
        scores: (N,) in 0..1, or None.
        camera: whose image the pixels are of; None: the only one.

    Raises:
        InputError: shapes do not fit, or a number is not finite.
    """

    name: ClassVar[str] = 'lanes'
    polylines: tuple[npt.NDArray[Any], ...]
    labels: npt.NDArray[Any]
    scores: npt.NDArray[Any] | None = None
    camera: str | None = None

    def __post_init__(self) -> None:
        polylines: Sequence[Any] = self.polylines
        dimensions = {np.shape(line)[-1] if np.ndim(line) == 2 else 0 for line in polylines}
        if len(dimensions) > 1 or not dimensions <= {2, 3} or any(len(line) < 2 for line in polylines):
            shapes = ', '.join(str(np.shape(line)) for line in polylines)
            raise InputError(f'polylines: expected all (M, 2) pixels or all (M, 3) metres, M 2 or more, got {shapes}')
        lines = tuple(checked(f'polyline {k}', line, np.shape(line), np.float64) for k, line in enumerate(polylines))
        labels = checked('labels of lanes', self.labels, (len(lines),), np.int64)
        scores = self.scores
        if scores is not None:
            scores = checked('scores of lanes', scores, (len(lines),), np.float64)
        for name, value in (
            ('polylines', lines), ('labels', labels), ('scores', scores),
            ('classes', checked_classes('lanes', self.classes)),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.polylines)

    @property
    def in_image(self) -> bool:
        """Whether the polylines are pixels of an image."""
        return bool(self.polylines) and self.polylines[0].shape[1] == 2

    def above(self, score: float) -> Lanes:
        """Returns the lanes whose score is at least `score`; all of them where there are no scores."""
        if self.scores is None:
            return self
        kept = np.flatnonzero(self.scores >= score)
        lines = tuple(self.polylines[k] for k in kept)
        return replace(self, polylines=lines, labels=self.labels[kept], scores=self.scores[kept])

    def footprints(self) -> npt.NDArray[Any]:
        """Returns the points of lanes in metres, seen from above."""
        if self.in_image or not self.polylines:
            return np.zeros((0, 2))
        below: npt.NDArray[Any] = np.concatenate(self.polylines)[:, :2]
        return below

    def counts(self) -> npt.NDArray[Any]:
        """Returns the number of lanes of each class, and of unknown labels."""
        return count_labels(self.labels, len(self.classes))

    def _segments(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The segments (S, 2, D) of all polylines, and the labels (S,)."""
        segments = [np.stack([line[:-1], line[1:]], axis=1) for line in self.polylines]
        labels = np.repeat(self.labels, [len(part) for part in segments])
        return np.concatenate(segments), labels

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns the lanes of this camera's image, or those of the LiDAR frame, cut at the near plane."""
        if not self.polylines:
            return []
        segments, labels = self._segments()
        if not self.in_image:
            segments, kept = view.segments(segments)
            labels = labels[kept]
        elif view.shows(self.camera):
            segments = view.image_points(segments)
        else:
            return []
        look = Style(thickness_px=style.thickness_px, dash_px=style.dash_px, halo=style.dash_px is None)
        return [Lines(labels, self.classes, segments, style=look)]

    def in_bev(self, view: BevView, style: StructureStyle) -> list[Primitive]:
        """Returns lanes in metres, seen from above."""
        if self.in_image or not self.polylines:
            return []
        segments, labels = self._segments()
        look = Style(thickness_px=style.thickness_px, dash_px=style.dash_px)
        return [Lines(labels, self.classes, view.to_pixels(segments[..., :2]), style=look)]

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns lanes in metres."""
        if self.in_image or not self.polylines:
            return []
        segments, labels = self._segments()
        look = Style(thickness_px=style.thickness_px, dash_px=style.dash_px, brightness=style.brightness)
        return [Lines(labels, self.classes, segments, style=look)]
