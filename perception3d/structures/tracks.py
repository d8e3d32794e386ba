"""Objects tracked over time: boxes with identities and past positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.structures.base import Structure, checked
from perception3d.structures.boxes import Boxes, box_footprints, box_wireframes
from perception3d.structures.primitives import Lines, Primitive, StructureStyle, Style, Texts
from perception3d.structures.views import BevView, CameraView, View3D


@dataclass(frozen=True)
class Tracks(Structure):
    """Current boxes with identities and histories.

    Attributes:
        boxes: the current `Boxes`; their classes are those of the tracks.
        ids: (N,) identities, whole numbers, each once.
        history: N arrays (T, 3), the bottom centres of an object so far, oldest first, metres in the current LiDAR
            frame; T may be 0. None: no histories.

    Raises:
        InputError: shapes do not fit, an identity is there twice, or a number is not finite.
    """

    name: ClassVar[str] = 'tracks'
    boxes: Boxes
    ids: npt.NDArray[Any]
    history: tuple[npt.NDArray[Any], ...] | None = None

    def __post_init__(self) -> None:
        boxes = Boxes.from_json(self.boxes) if isinstance(self.boxes, Mapping) else self.boxes
        boxes = boxes.with_classes(self.classes)
        ids = checked('ids of tracks', self.ids, (len(boxes),), np.int64)
        if len(np.unique(ids)) < len(ids):
            raise InputError('ids of tracks: expected each identity once, got one twice')
        history = self.history
        if history is not None:
            if len(history) != len(boxes):
                raise InputError(f'history of tracks: expected {len(boxes)} arrays, one a box, got {len(history)}')
            history = tuple(checked(f'history {k}', line, (None, 3), np.float64) for k, line in enumerate(history))
        for name, value in (('boxes', boxes), ('ids', ids), ('history', history), ('classes', boxes.classes)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, kept: npt.NDArray[Any]) -> Tracks:
        """Returns the tracks of a boolean mask or an index array."""
        rows = np.arange(len(self))[kept]
        history = None if self.history is None else tuple(self.history[k] for k in rows)
        return replace(self, boxes=self.boxes.select(rows), ids=self.ids[rows], history=history)

    def with_classes(self, classes: Any) -> Tracks:
        """Returns itself with these class names, where it has none."""
        names = tuple(map(str, classes))
        return self if self.classes else replace(self, boxes=self.boxes.with_classes(names), classes=names)

    def above(self, score: float) -> Tracks:
        """Returns the tracks whose score is at least `score`; all of them where there are no scores."""
        return self if self.boxes.scores is None else self.select(self.boxes.scores >= score)

    def drawable(self) -> tuple[Tracks, int]:
        """Returns the tracks with finite boxes, and how many were not."""
        finite = np.isfinite(self.boxes.boxes[:, :7]).all(axis=1)
        return self.select(finite), int((~finite).sum())

    @property
    def has_fronts(self) -> bool:
        """True: a box has a front face."""
        return True

    @property
    def has_motion(self) -> bool:
        """Whether the boxes carry velocities."""
        return self.boxes.has_motion

    def footprints(self) -> npt.NDArray[Any]:
        """Returns the corners of the current boxes, seen from above."""
        return self.boxes.footprints()

    def counts(self) -> npt.NDArray[Any]:
        """Returns the number of tracks of each class, and of unknown labels."""
        return self.boxes.counts()

    def texts(self) -> list[str]:
        """What is written at each box: its identity."""
        return [f'#{k}' for k in self.ids]

    def _trails(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The segments (S, 2, 3) of all histories, up to the current box, in metres, and the labels (S,)."""
        segments, labels = [np.zeros((0, 2, 3))], [np.zeros(0, np.int64)]
        for line, box, label in zip(self.history or (), self.boxes.boxes, self.boxes.labels):
            positions = np.concatenate([line, box[None, :3]])
            segments.append(np.stack([positions[:-1], positions[1:]], axis=1))
            labels.append(np.repeat(label, len(line)))
        return np.concatenate(segments), np.concatenate(labels)

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns wireframes with identities, and the trails on the ground."""
        segments, labels = self._trails()
        pixels, kept = view.segments(segments)
        trails = Lines(labels[kept], self.classes, pixels, style=Style(thickness_px=style.thickness_px))
        return [trails, *box_wireframes(self.boxes, view, style, self.texts())]

    def in_bev(self, view: BevView, style: StructureStyle) -> list[Primitive]:
        """Returns footprints with identities, and the trails."""
        segments, labels = self._trails()
        look = Style(thickness_px=style.thickness_px)
        trails = Lines(labels, self.classes, view.to_pixels(segments[..., :2]), style=look)
        return [trails, *box_footprints(self.boxes, view, style, self.texts() if view.with_texts else None)]

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns boxes, trails and identities in metres."""
        segments, labels = self._trails()
        look = Style(thickness_px=style.thickness_px, brightness=style.brightness)
        trails = Lines(labels, self.classes, segments, style=look)
        tops = self.boxes.boxes[:, :3] + self.boxes.boxes[:, 5:6] * [0, 0, 1]
        ids = Texts(
            self.boxes.labels, self.classes, tops, tuple(self.texts()), style=Style(brightness=style.brightness)
        )
        return [trails, *self.boxes.in_3d(view, style), ids]
