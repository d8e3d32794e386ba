"""Objects tracked over time: boxes with identities and past positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.structures.base import Structure, checked
from perception3d.structures.boxes import Boxes, box_footprints, box_wireframes, texts_right_of
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

    @property
    def names_boxes(self) -> bool:
        """True: identities are written at the boxes."""
        return True

    def footprints(self) -> npt.NDArray[Any]:
        """Returns the corners of the current boxes, seen from above."""
        return self.boxes.footprints()

    def counts(self) -> npt.NDArray[Any]:
        """Returns the number of tracks of each class, and of unknown labels."""
        return self.boxes.counts()

    def texts(self) -> list[str]:
        """What is written at each box: its identity."""
        return [f'#{k}' for k in self.ids]

    def beside(self, others: Sequence[Structure]) -> Structure:
        """Returns trails and identities alone where the source has boxes, which are those of the tracks."""
        return TrackTrails(self) if any(other.name == Boxes.name for other in others) else self

    @property
    def trails(self) -> TrackTrails:
        """The identities and trails, without boxes."""
        return TrackTrails(self)

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns wireframes with identities, and the trails on the ground."""
        return [self.trails.lines_in_camera(view, style), *box_wireframes(self.boxes, view, style, self.texts())]

    def in_bev(self, view: BevView, style: StructureStyle) -> list[Primitive]:
        """Returns footprints with identities, and the trails."""
        names = self.texts() if view.with_texts else None
        return [self.trails.lines_in_bev(view, style), *box_footprints(self.boxes, view, style, names)]

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns boxes, trails and identities in metres."""
        trails, ids = self.trails.in_3d(view, style)
        return [trails, *self.boxes.in_3d(view, style), ids]


@dataclass(frozen=True)
class TrackTrails(Structure):
    """What is drawn of tracks next to the boxes that they were made of: trails and identities, one colour each.

    Attributes:
        tracks: the `Tracks`.
    """

    name: ClassVar[str] = 'trails'
    tracks: Tracks

    @property
    def names_boxes(self) -> bool:
        """True: identities are written at the boxes."""
        return True

    def footprints(self) -> npt.NDArray[Any]:
        """Returns the corners of the current boxes, seen from above."""
        return self.tracks.footprints()

    def _boxes(self) -> Boxes:
        """The boxes with a class of its own for each track, so that its colour stays from frame to frame."""
        names = tuple(f'track {k}' for k in self.tracks.ids)
        return replace(self.tracks.boxes, labels=np.arange(len(names)), classes=names)

    def _segments(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The segments (S, 2, 3) of all histories, up to the current box, in metres, and their tracks (S,)."""
        segments, rows = [np.zeros((0, 2, 3))], [np.zeros(0, np.int64)]
        for row, (line, box) in enumerate(zip(self.tracks.history or (), self.tracks.boxes.boxes)):
            positions = np.concatenate([line, box[None, :3]])
            segments.append(np.stack([positions[:-1], positions[1:]], axis=1))
            rows.append(np.repeat(row, len(line)))
        return np.concatenate(segments), np.concatenate(rows)

    def lines_in_camera(self, view: CameraView, style: StructureStyle) -> Lines:
        """Returns the trails on the ground in pixels of a camera view."""
        segments, rows = self._segments()
        pixels, kept = view.segments(segments)
        look = Style(thickness_px=style.thickness_px)
        return Lines(rows[kept], self._boxes().classes, pixels, style=look)

    def lines_in_bev(self, view: BevView, style: StructureStyle) -> Lines:
        """Returns the trails in pixels of a BEV view."""
        segments, rows = self._segments()
        look = Style(thickness_px=style.thickness_px)
        return Lines(rows, self._boxes().classes, view.to_pixels(segments[..., :2]), style=look)

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns the trails on the ground, and the identities above the boxes."""
        boxes, text_px = self._boxes(), 8 * view.scale
        pixels, kept = view.points(_tops(boxes))
        texts = tuple(self.tracks.texts()[row] for row in kept)
        look = Style(text_px=text_px, plate=0.55)
        ids = Texts(boxes.labels[kept], boxes.classes, pixels - [0, 1.9 * text_px], texts, style=look)
        return [self.lines_in_camera(view, style), ids]

    def in_bev(self, view: BevView, style: StructureStyle) -> list[Primitive]:
        """Returns the trails, and the identities right of the boxes."""
        ids = texts_right_of(self._boxes(), view, self.tracks.texts()) if view.with_texts else []
        return [self.lines_in_bev(view, style), *ids]

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns trails and identities in metres."""
        (segments, rows), boxes = self._segments(), self._boxes()
        look = Style(thickness_px=style.thickness_px, brightness=style.brightness)
        texts, dim = tuple(self.tracks.texts()), Style(brightness=style.brightness)
        return [
            Lines(rows, boxes.classes, segments, style=look),
            Texts(boxes.labels, boxes.classes, _tops(boxes), texts, style=dim),
        ]


@dataclass(frozen=True)
class FrameTracks:
    """The tracks of a frame, and which frame that is.

    Attributes:
        token: of the frame.
        scene: the sequence that it belongs to.
        time_s: its time in seconds, or None.
        tracks: in the LiDAR frame.
        global_from_lidar: the pose (4, 4), or None where it is not known.
    """

    token: str
    scene: str
    time_s: float | None
    tracks: Tracks
    global_from_lidar: npt.NDArray[Any] | None = None

    def without_history(self) -> FrameTracks:
        """Returns the frame without trails, which files do not have and which take the most memory."""
        return replace(self, tracks=replace(self.tracks, history=None))


def _tops(boxes: Boxes) -> npt.NDArray[Any]:
    """The middles (N, 3) of the tops of boxes."""
    tops: npt.NDArray[Any] = boxes.boxes[:, :3] + boxes.boxes[:, 5:6] * [0, 0, 1]
    return tops
