"""3D boxes: wireframes in cameras, footprints in BEV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.geometry.boxes import corners as box_corners
from perception3d.geometry.frustum import clip_polygon, clip_segments
from perception3d.structures.base import Structure, checked_classes, count_labels
from perception3d.structures.matches import MATCHES, match_boxes
from perception3d.structures.primitives import Lines, Polygons, Primitive, StructureStyle, Style, Texts
from perception3d.structures.views import BevView, CameraView, View3D

# Corner order of mmdet3d: x0y0z0, x0y0z1, x0y1z1, x0y1z0, then the same four at x1, the front of the box.
EDGES = np.array(
    [(0, 3), (3, 7), (7, 4), (4, 0), (1, 2), (2, 6), (6, 5), (5, 1), (0, 1), (3, 2), (7, 6), (4, 5)], np.int64
)
FRONT = np.array([4, 5, 6, 7], np.int64)
BOTTOM = np.array([0, 3, 7, 4], np.int64)

IGNORED = 'ignored'
"""Class of annotated boxes that are neither to be found nor background."""

# Speeds below this are noise of a standing object and would litter the picture with stubs.
MIN_SPEED_MPS = 0.3


@dataclass(frozen=True)
class Boxes(Structure):
    """3D boxes in the LiDAR frame.

    Attributes:
        boxes: (N, 7 or 9) x, y, z of the bottom centre, length, width, height in metres, yaw in radians (0 along +x,
            counter-clockwise), and where known the velocity along x and y in m/s (NaN: unknown). A box that is not
            finite is kept, and drawn nowhere: a model that diverged predicts such boxes.
        labels: (N,) index into the class names; an index outside them is drawn as "other".
        scores: (N,) in 0..1, or None.

    Raises:
        InputError: the shapes do not fit.
    """

    name: ClassVar[str] = 'boxes'
    boxes: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    scores: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        boxes, labels = np.asarray(self.boxes, np.float64), np.asarray(self.labels, np.int64).reshape(-1)
        if boxes.size == 0:
            boxes = boxes.reshape(0, boxes.shape[-1] if boxes.ndim == 2 and boxes.shape[-1] >= 7 else 9)
        if boxes.ndim != 2 or boxes.shape[1] < 7 or len(boxes) != len(labels):
            raise InputError(f'boxes {boxes.shape} and labels {labels.shape} do not fit: give (N, 7 or 9) and (N,)')
        scores = None if self.scores is None else np.asarray(self.scores, np.float64).reshape(-1)
        if scores is not None and len(scores) != len(boxes):
            raise InputError(f'{len(scores)} scores came with {len(boxes)} boxes: give one score a box')
        classes = checked_classes('boxes', self.classes)
        for name, value in (('boxes', boxes), ('labels', labels), ('scores', scores), ('classes', classes)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, kept: npt.NDArray[Any]) -> Boxes:
        """Returns the boxes of a boolean mask or an index array."""
        scores = None if self.scores is None else self.scores[kept]
        return replace(self, boxes=self.boxes[kept], labels=self.labels[kept], scores=scores)

    def above(self, score: float) -> Boxes:
        """Returns the boxes whose score is at least `score`; all of them where there are no scores."""
        return self if self.scores is None else self.select(self.scores >= score)

    def drawable(self) -> tuple[Boxes, int]:
        """Returns the finite boxes, and how many were not."""
        finite = np.isfinite(self.boxes[:, :7]).all(axis=1)
        return self.select(finite), int((~finite).sum())

    def beside(self, others: Sequence[Structure]) -> Boxes:
        """Returns the boxes without scores where another structure writes at them."""
        return replace(self, scores=None) if any(other.names_boxes for other in others) else self

    def matched(self, truth: Sequence[Structure], distance_m: float) -> Structure | None:
        """Returns boxes of the classes `matches.MATCHES`; None where predictions have no scores, or truth no boxes.

        Classes are not compared. Annotated boxes of the class IGNORED are not to be found.
        """
        annotated = [one for one in truth if isinstance(one, Boxes)]
        if self.scores is None or not annotated:
            return None
        parts: tuple[list[npt.NDArray[Any]], ...] = ([np.zeros((0, 7))], [np.zeros((0, 7))])
        for one in annotated:
            parts[one.classes == (IGNORED,)].append(one.boxes[:, :7])
        known, ignored = (np.concatenate(part) for part in parts)
        boxes, labels = match_boxes(self.boxes, self.scores, known, ignored, distance_m)
        return Boxes(boxes, labels, classes=MATCHES)

    @property
    def corners(self) -> npt.NDArray[Any]:
        """The corners (N, 8, 3) in metres, in mmdet3d's order."""
        return np.asarray(box_corners(self.boxes[:, :7]), np.float64).reshape(-1, 8, 3)

    @property
    def velocities(self) -> npt.NDArray[Any] | None:
        """The velocities (N, 2) in m/s, or None where the boxes carry none."""
        return self.boxes[:, 7:9] if self.boxes.shape[1] >= 9 else None

    @property
    def has_fronts(self) -> bool:
        """True: a box has a front face."""
        return True

    @property
    def has_motion(self) -> bool:
        """Whether the boxes carry velocities."""
        return self.velocities is not None

    def footprints(self) -> npt.NDArray[Any]:
        """Returns the corners of all boxes seen from above, (8N, 2)."""
        return self.corners[..., :2].reshape(-1, 2)

    def counts(self) -> npt.NDArray[Any]:
        """Returns the number of boxes of each class, and of unknown labels."""
        return count_labels(self.labels, len(self.classes))

    def texts(self) -> list[str] | None:
        """What is written at each box: its score, where there are scores."""
        return None if self.scores is None else [f'{score:.2f}' for score in self.scores]

    def in_camera(self, view: CameraView, style: StructureStyle) -> list[Primitive]:
        """Returns wireframes with a tinted front face, far boxes first, with scores above those that are large."""
        return box_wireframes(self, view, style, self.texts())

    def in_bev(self, view: BevView, style: StructureStyle) -> list[Primitive]:
        """Returns footprints with a tick through the front, an arrow of one second of motion, and scores."""
        return box_footprints(self, view, style, self.texts() if view.with_texts else None)

    def in_3d(self, view: View3D, style: StructureStyle) -> list[Primitive]:
        """Returns the twelve edges and a cross on the front face of each box."""
        if not len(self):
            return []
        pairs = np.concatenate([EDGES, FRONT[[[0, 2], [1, 3]]]])
        segments = self.corners[:, pairs].reshape(-1, 2, 3)
        look = Style(thickness_px=style.thickness_px, dash_px=style.dash_px, brightness=style.brightness)
        return [Lines(np.repeat(self.labels, len(pairs)), self.classes, segments, style=look)]

    def describe(self) -> dict[str, Any]:
        """Returns a list of boxes as plain numbers: metres, radians, m/s, in the LiDAR frame."""
        # In float32, as models compute: its shortest decimals are what the model said.
        rows = self.boxes.astype(np.float32)
        centers = rows[:, :3] + np.stack([0 * rows[:, 5], 0 * rows[:, 5], rows[:, 5] * np.float32(0.5)], 1)
        entries = []
        for row, center, label, index in zip(rows.tolist(), centers.tolist(), self.labels, range(len(self))):
            named = self.classes[label] if 0 <= label < len(self.classes) else 'other'
            entries.append(
                {
                    'class': named,
                    **({} if self.scores is None else {'score': round(float(self.scores[index]), 4)}),
                    'center_m': center,
                    'size_lwh_m': row[3:6],
                    'yaw_rad': row[6],
                    # Not every data set labels velocities.
                    **({'velocity_mps': row[7:9]} if row[7:9] else {}),
                }
            )
        return {'boxes': entries}


def box_wireframes(
    boxes: Boxes, view: CameraView, style: StructureStyle, texts: list[str] | None = None
) -> list[Primitive]:
    """Returns the wireframes of boxes in a camera view, far ones first, with `texts` above those that are large."""
    primitives: list[Primitive] = []
    if not len(boxes):
        return primitives
    homogeneous, planes = view.homogeneous(boxes.corners), view.planes
    # Most boxes have all corners on the outer side of one plane: they need no cutting.
    outside = (homogeneous @ planes[:, :3].T + planes[:, 3] < 0).all(axis=1).any(axis=1)
    for index in np.argsort(-homogeneous[..., 2].mean(axis=1), kind='stable'):
        if outside[index]:
            continue
        segments, _ = clip_segments(homogeneous[index][EDGES], planes)
        if not len(segments):
            continue
        label = boxes.labels[[index]]
        front = clip_polygon(homogeneous[index][FRONT], planes)
        primitives.append(Polygons(label, boxes.classes, [front], style=Style(opacity=style.opacity)))
        extent = np.ptp(segments.reshape(-1, 2), axis=0)
        # Thick lines and dark halos help large boxes and would swallow small ones; a halo would close dashes.
        lines = Style(
            thickness_px=style.thickness_px if extent.max() >= 64 else 1,
            dash_px=style.dash_px,
            halo=style.dash_px is None and bool(extent.max() >= 90),
        )
        primitives.append(Lines(np.repeat(label, len(segments)), boxes.classes, segments, style=lines))
        text_px = 8 * view.scale
        if texts is not None and texts[index] and extent.max() >= 3 * text_px:
            above = segments.reshape(-1, 2).min(axis=0) - [0, 1.9 * text_px]
            look = Style(text_px=text_px, plate=0.55)
            primitives.append(Texts(label, boxes.classes, above[None], (texts[index],), style=look))
    return primitives


def box_footprints(
    boxes: Boxes, view: BevView, style: StructureStyle, texts: Iterable[str] | None = None
) -> list[Primitive]:
    """Returns the footprints of boxes in a BEV view, with ticks through their fronts, arrows of motion, and `texts`."""
    if not len(boxes):
        return []
    classes, footprint = boxes.classes, view.to_pixels(boxes.corners[:, BOTTOM, :2])
    primitives: list[Primitive] = [
        Polygons(boxes.labels, classes, list(footprint), style=Style(opacity=style.bev_opacity))
    ]
    front, center = footprint[:, 2:4].mean(axis=1), footprint.mean(axis=1)
    # A tint sets dashed boxes off; thin dashes keep a solid one on top of them visible.
    thickness = 1 if style.dash_px else style.thickness_px
    for index, label in enumerate(boxes.labels):
        outline = np.stack([footprint[index], np.roll(footprint[index], -1, axis=0)], axis=1)
        tick = np.stack([center[index], center[index] + 1.35 * (front[index] - center[index])])
        dashed, solid = Style(thickness_px=thickness, dash_px=style.dash_px), Style(thickness_px=thickness)
        primitives.append(Lines(np.repeat(label, 4), classes, outline, style=dashed))
        primitives.append(Lines(np.array([label]), classes, tick[None], style=solid))
    if boxes.velocities is not None and view.with_motion:
        # In pixels a second; v grows downwards.
        motion = view.to_map(boxes.velocities) * [view.px_per_m, -view.px_per_m]
        moving = np.flatnonzero(np.hypot(*motion.T) / view.px_per_m >= MIN_SPEED_MPS)
        arrows = np.stack([center[moving], center[moving] + motion[moving]], axis=1)
        look = Style(thickness_px=thickness, arrow=True)
        primitives.append(Lines(boxes.labels[moving], classes, arrows, style=look))
    if texts is not None:
        primitives += texts_right_of(boxes, view, list(texts))
    return primitives


def texts_right_of(boxes: Boxes, view: BevView, texts: Sequence[str]) -> list[Primitive]:
    """Returns texts, one a box, to the right of the footprints whose middle a BEV view shows; empty ones not."""
    text_px, footprint = 7.5 * view.scale, view.to_pixels(boxes.corners[:, BOTTOM, :2])
    center = footprint.mean(axis=1)
    inside = (center >= 0).all(axis=1) & (center < (view.width_px, view.height_px)).all(axis=1)
    shown = np.array([k for k in np.flatnonzero(inside) if texts[k]], np.int64)
    corners = np.stack([footprint[shown, :, 0].max(axis=1) + 1, center[shown, 1] - text_px], axis=1)
    written = tuple(texts[k] for k in shown)
    return [Texts(boxes.labels[shown], boxes.classes, corners, written, style=Style(text_px=text_px))]
