"""Lanes and other lines on the road as polylines, in an image or in the LiDAR frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.structures.base import Structure, checked, checked_classes, count_labels
from perception3d.structures.primitives import Lines, Primitive, StructureStyle, Style, Texts
from perception3d.structures.views import BevView, CameraView, View3D

IGNORED = 255
"""Value of the pixels that no loss counts, in masks of lanes and of classes."""


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
        """The segments (S, 2, D) of all polylines, and of which polyline (S,) each is."""
        segments = [np.stack([line[:-1], line[1:]], axis=1) for line in self.polylines]
        return np.concatenate(segments), np.repeat(np.arange(len(self)), [len(part) for part in segments])

    def _lines(
        self, segments: npt.NDArray[Any], owners: npt.NDArray[Any], style: StructureStyle, halo: bool = False
    ) -> Lines:
        """Segments in pixels (S, 2, 2) of the polylines `owners` (S,), the dashed ones cut, and thicker.

        The truth is seen on both sides of a prediction that covers it.
        """
        thickness = style.thickness_px
        if style.dash_px is not None:
            segments, owners = cut_into_dashes(segments, owners, 2 * style.dash_px[0], 2 * style.dash_px[1])
            thickness = 3 * thickness + 1
        look = Style(thickness_px=thickness, halo=halo and style.dash_px is None)
        return Lines(self.labels[owners], self.classes, segments, style=look)

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns the lanes of this camera's image with their scores, or those of the LiDAR frame, cut near it."""
        if not self.polylines:
            return []
        segments, owners = self._segments()
        if not self.in_image:
            segments, kept = view.segments(segments)
            return [self._lines(segments, owners[kept], style, halo=True)]
        if not view.shows(self.camera):
            return []
        return [self._lines(view.image_points(segments), owners, style, halo=True), *self._scores(view)]

    def _scores(self, view: CameraView) -> list[Primitive]:
        """The score of each lane next to its lowest point in view."""
        corners, labels, texts = [], [], []
        text_px = 8 * view.scale
        for k, line in enumerate(self.polylines if self.scores is not None else ()):
            points = view.image_points(line)
            inside = (points >= 0).all(axis=1) & (points < (view.width_px, view.height_px - 2 * text_px)).all(axis=1)
            if inside.any():
                seen = points[inside]
                corners.append(seen[seen[:, 1].argmax()] + (0.75 * text_px, -text_px))
                labels.append(int(self.labels[k]))
                texts.append(f'{self.scores[k]:.2f}' if self.scores is not None else '')
        look = Style(text_px=text_px, plate=0.55)
        return [Texts(np.array(labels), self.classes, np.array(corners), tuple(texts), style=look)] if texts else []

    def in_bev(self, view: BevView, style: StructureStyle) -> list[Primitive]:
        """Returns lanes in metres, seen from above."""
        if self.in_image or not self.polylines:
            return []
        segments, owners = self._segments()
        return [self._lines(view.to_pixels(segments[..., :2]), owners, style)]

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns lanes in metres."""
        if self.in_image or not self.polylines:
            return []
        segments, owners = self._segments()
        look = Style(thickness_px=style.thickness_px, dash_px=style.dash_px, brightness=style.brightness)
        return [Lines(self.labels[owners], self.classes, segments, style=look)]


def cut_into_dashes(
    segments: npt.NDArray[Any], owners: npt.NDArray[Any], dash_px: float, gap_px: float
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns the dashes of polylines, counted along each from its start, across the corners between its segments.

    Args:
        segments: (S, 2, D), those of a polyline one after the other.
        owners: (S,) the polyline of each.
        dash_px: length of a dash, as the coordinates.
        gap_px: length of a gap. A segment of more than a thousand dashes stays whole.

    Returns:
        (T, 2, D) and (T,).
    """
    period = dash_px + gap_px
    step = segments[:, 1] - segments[:, 0]
    length = np.linalg.norm(step, axis=1)
    end = np.cumsum(length)
    first = np.append(True, owners[1:] != owners[:-1])[: len(owners)]
    end -= np.maximum.accumulate(np.where(first, end - length, 0))
    begin = np.maximum(end - length, 0)
    whole = length > 1000 * period
    number = np.floor(begin / period).astype(np.int64)
    count = np.where(whole, 1, np.floor(end / period).astype(np.int64) - number + 1)
    source = np.repeat(np.arange(len(segments)), count)
    nth = number[source] + np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
    low = np.where(whole[source], begin[source], np.maximum(nth * period, begin[source]))
    high = np.where(whole[source], end[source], np.minimum(nth * period + dash_px, end[source]))
    source, low, high = (values[high > low] for values in (source, low, high))
    share = (np.stack([low, high], axis=1) - begin[source, None]) / length[source, None]
    return segments[source, None, 0] + share[..., None] * step[source, None], owners[source]
