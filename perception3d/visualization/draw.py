"""One picture of one sample: arrays in, a BGR picture out. No display, no files, no framework objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import numpy as np

from perception3d.checks import InputError
from perception3d.geometry.boxes import corners as box_corners
from perception3d.visualization.bev import BevWindow, draw_bev_boxes, draw_ground, write_scores
from perception3d.visualization.canvas import text
from perception3d.visualization.ground import NUSCENES_FORWARD, Ground, Panel, fitted_panels, square_panels
from perception3d.visualization.layout import GAP, fit_images
from perception3d.visualization.legend import draw_legend
from perception3d.visualization.palette import class_colors
from perception3d.visualization.wireframe import LineStyle, draw_wireframes

_OTHER = 'other'


@dataclass(frozen=True)
class BoxSet:
    """Boxes of one kind.

    Attributes:
        boxes: (N, 7 or 9) x, y, z of the bottom centre, length, width, height in metres, yaw in radians (0 along +x,
            counter-clockwise), and where known the velocity along x and y in m/s (NaN: unknown); LiDAR frame.
        labels: (N,) index into the class names; an index outside them is drawn as "other".
        scores: (N,) in 0..1, or None.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        boxes, labels = np.asarray(self.boxes, np.float64), np.asarray(self.labels, np.int64).reshape(-1)
        if boxes.size == 0:
            boxes = boxes.reshape(0, boxes.shape[-1] if boxes.ndim == 2 and boxes.shape[-1] >= 7 else 9)
        if boxes.ndim != 2 or boxes.shape[1] < 7 or len(boxes) != len(labels):
            raise InputError(f'boxes {boxes.shape} and labels {labels.shape} do not fit: give (N, 7 or 9) and (N,)')
        scores = None if self.scores is None else np.asarray(self.scores, np.float64).reshape(-1)
        if scores is not None and len(scores) != len(boxes):
            raise InputError(f'{len(scores)} scores came with {len(boxes)} boxes: give one score a box')
        for name, value in (('boxes', boxes), ('labels', labels), ('scores', scores)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, kept: np.ndarray) -> BoxSet:
        """Returns the boxes of a boolean mask or an index array."""
        return BoxSet(self.boxes[kept], self.labels[kept], None if self.scores is None else self.scores[kept])

    @property
    def corners(self) -> np.ndarray:
        """The corners (N, 8, 3) in metres, in mmdet3d's order."""
        return np.asarray(box_corners(self.boxes[:, :7]), np.float64).reshape(-1, 8, 3)

    @property
    def velocities(self) -> np.ndarray | None:
        """The velocities (N, 2) in m/s, or None where the boxes carry none."""
        return self.boxes[:, 7:9] if self.boxes.shape[1] >= 9 else None


@dataclass(frozen=True)
class Style:
    """Sizes of a picture.

    Attributes:
        width_px: width of the whole picture; everything scales with it.
        max_camera_height_px: no camera image gets higher than this share of the width, in pixels at 1920.
        range_m: half the side of the wide bird's eye view in the nuScenes frame.
        zoom_m: half the side of the near one.
        ground_truth: lines of ground truth boxes.
        prediction: lines of predicted boxes.
    """

    width_px: int = 1920
    max_camera_height_px: int = 540
    range_m: float = 51.2
    zoom_m: float = 20.0
    ground_truth: LineStyle = field(default_factory=lambda: LineStyle(2, (7.0, 5.0), 0.22))
    prediction: LineStyle = field(default_factory=lambda: LineStyle(2, None, 0.12))

    def __post_init__(self) -> None:
        if self.width_px < 320:
            raise InputError(f'a picture {self.width_px} pixels wide has no room for its parts: ask for 320 or more')
        if min(self.range_m, self.zoom_m) <= 0:
            raise InputError(f"a bird's eye view of {min(self.range_m, self.zoom_m)} m shows nothing: give more than 0")

    @property
    def scale(self) -> float:
        """Size of text relative to a picture 1920 pixels wide."""
        return self.width_px / 1920


def draw_sample(
    images: Mapping[str, np.ndarray],
    img_from_lidar: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    ground_truth: BoxSet | None = None,
    predictions: BoxSet | None = None,
    points: np.ndarray | None = None,
    title: str = '',
    notes: Sequence[str] = (),
    style: Style | None = None,
    ground: Ground | None = None,
) -> np.ndarray:
    """Draws the cameras with 3D boxes, bird's eye views and a legend.

    Args:
        images: camera name -> (H, W, 3) uint8 BGR; any number, sizes may differ; an empty mapping leaves them out.
        img_from_lidar: camera name -> (4, 4) matrix to the pixels of that very image, augmentation included; (0, 0) is
            the corner of the image, so that scaling an image scales them.
        class_names: K names; colours and legend follow them.
        ground_truth: boxes drawn dashed, or None when there is no annotation.
        predictions: boxes drawn solid with their scores, or None when nothing was predicted.
        points: (N, 3 or more) in metres, LiDAR frame, or None.
        title: one line on top.
        notes: short lines below the legend.
        style: sizes.
        ground: how the LiDAR frame lies; by default as that of nuScenes.

    Returns:
        (H, `style.width_px`, 3) uint8 BGR.

    Raises:
        InputError: an image without a matrix, or something that is no colour image.
    """
    style = style or Style()
    names = [*class_names, _OTHER]
    ground_truth, bad_gt = _drawable(ground_truth, len(class_names))
    predictions, bad_pred = _drawable(predictions, len(class_names))
    if bad_gt + bad_pred:
        notes = [*notes, f'{bad_gt + bad_pred} boxes not finite: left out']
    parts = [_draw_title(title, style)]
    if images:
        parts.append(_draw_cameras(images, img_from_lidar, names, ground_truth, predictions, style))
    parts.append(_draw_ground_row(names, ground_truth, predictions, points, notes, style, ground or Ground()))
    return np.concatenate(parts, axis=0)


def draw_cameras(
    images: Mapping[str, np.ndarray],
    img_from_lidar: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    ground_truth: BoxSet | None = None,
    predictions: BoxSet | None = None,
    style: Style | None = None,
) -> np.ndarray:
    """Draws the camera grid of `draw_sample` alone; same arguments, same colours."""
    names = [*class_names, _OTHER]
    ground_truth, _ = _drawable(ground_truth, len(class_names))
    predictions, _ = _drawable(predictions, len(class_names))
    return _draw_cameras(images, img_from_lidar, names, ground_truth, predictions, style or Style())


def title_line(token: str = '', scene: str = '', time_s: float | None = None, extra: str = '') -> str:
    """Returns the words of a title: sample token, scene, time in UTC and seconds, and anything else, where known."""
    parts = [f'sample {token}' if token else '', f'scene {scene}' if scene else '']
    if time_s is not None and np.isfinite(time_s):
        # Simulated worlds count from zero; a date in 1970 would say nothing.
        moment = datetime.fromtimestamp(round(float(time_s), 3), tz=timezone.utc)
        parts.append(f'{moment:%Y-%m-%d %H:%M:%S} UTC' if time_s > 1e8 else '')
        parts.append(f'{time_s:.3f} s')
    return '   '.join(part for part in [*parts, extra] if part)


def _drawable(boxes: BoxSet | None, num_classes: int) -> tuple[BoxSet | None, int]:
    """Returns the finite boxes with foreign labels mapped to `num_classes`, and how many were not finite."""
    if boxes is None:
        return None, 0
    finite = np.isfinite(boxes.boxes[:, :7]).all(axis=1)
    kept = boxes.select(finite)
    known = (kept.labels >= 0) & (kept.labels < num_classes)
    return BoxSet(kept.boxes, np.where(known, kept.labels, num_classes), kept.scores), int((~finite).sum())


def _draw_title(title: str, style: Style) -> np.ndarray:
    bar = np.full((round(34 * style.scale), style.width_px, 3), GAP, np.uint8)
    text(bar, title, (8 * style.scale, 7 * style.scale), height_px=11 * style.scale)
    return bar


def _draw_cameras(
    images: Mapping[str, np.ndarray],
    img_from_lidar: Mapping[str, np.ndarray],
    names: Sequence[str],
    ground_truth: BoxSet | None,
    predictions: BoxSet | None,
    style: Style,
) -> np.ndarray:
    _check_images(images, img_from_lidar)
    limit = round(style.max_camera_height_px * style.scale)
    scaled, scales, corners, (width, height) = fit_images(images, style.width_px, limit)
    grid = np.full((height, width, 3), GAP, np.uint8)
    for name, image in scaled.items():
        # Matrices count pixels from the corner of the image, the canvas from the centre of its first pixel.
        scaling = np.array([[scales[name], 0, -0.5], [0, scales[name], -0.5], [0, 0, 1]])
        matrix = scaling @ np.asarray(img_from_lidar[name], np.float64)[:3]
        for boxes, lines in ((ground_truth, style.ground_truth), (predictions, style.prediction)):
            if boxes is not None and len(boxes):
                colors = class_colors(names)[boxes.labels]
                draw_wireframes(image, boxes.corners, matrix, colors, lines, _score_texts(boxes), 8 * style.scale)
        size = f'{images[name].shape[1]} x {images[name].shape[0]}'
        text(image, f'{name}  {size}', (4, 4), height_px=9 * style.scale, plate=0.6)
        left, top = corners[name]
        grid[top : top + image.shape[0], left : left + image.shape[1]] = image
    return grid


def _check_images(images: Mapping[str, np.ndarray], img_from_lidar: Mapping[str, np.ndarray]) -> None:
    for name, image in images.items():
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise InputError(f'image {name!r} is {image.shape} {image.dtype}: give (H, W, 3) uint8 in BGR order')
        if name not in img_from_lidar:
            raise InputError(f'image {name!r} has no img_from_lidar matrix: give one for each image')


def _draw_ground_row(
    names: Sequence[str],
    ground_truth: BoxSet | None,
    predictions: BoxSet | None,
    points: np.ndarray | None,
    notes: Sequence[str],
    style: Style,
    ground: Ground,
) -> np.ndarray:
    legend_width = round(232 * style.scale)
    gap = max(2, round(4 * style.scale))
    sets = [boxes for boxes in (ground_truth, predictions) if boxes is not None]
    panels = _panels(ground, points, sets, style, legend_width, gap)
    parts = []
    for panel in panels:
        picture = draw_ground(panel.window, points, style.scale, panel.point_px)
        _draw_bev_sets(picture, panel.window, names, ground_truth, predictions, style, panel.with_scores)
        text(picture, panel.caption, (4, 4), height_px=9 * style.scale, plate=0.6)
        parts += [picture, np.full((len(picture), gap, 3), GAP, np.uint8)]
    counts = [_count(boxes, len(names)) for boxes in (ground_truth, predictions)]
    used = any(count is not None and count[-1] for count in counts)
    shown = names if used else names[:-1]
    rest = style.width_px - sum(part.shape[1] for part in parts)
    # Data without velocities has no arrows to be explained.
    with_motion = not sets or any(boxes.velocities is not None for boxes in sets)
    parts.append(draw_legend(rest, len(parts[0]), shown, counts, notes, style.scale, with_motion))
    return np.concatenate(parts, axis=1)


def _panels(
    ground: Ground, points: np.ndarray | None, sets: Sequence[BoxSet], style: Style, legend_px: int, gap_px: int
) -> list[Panel]:
    side = (style.width_px - legend_px - 2 * gap_px) // 2
    if ground.forward == NUSCENES_FORWARD:
        return square_panels((style.range_m, style.zoom_m), side)
    corners = np.concatenate([np.zeros((0, 8, 3)), *(boxes.corners for boxes in sets)])
    width = style.width_px - legend_px - gap_px
    return fitted_panels(ground, points, corners, width, side, gap_px, style.range_m)


def _draw_bev_sets(
    panel: np.ndarray,
    view: BevWindow,
    names: Sequence[str],
    ground_truth: BoxSet | None,
    predictions: BoxSet | None,
    style: Style,
    with_scores: bool,
) -> None:
    sets = ((ground_truth, style.ground_truth, 0.25), (predictions, style.prediction, 0.0))
    for boxes, lines, opacity in sets:
        if boxes is None or not len(boxes):
            continue
        colors = class_colors(names)[boxes.labels]
        # The tint sets ground truth off; thin dashes keep a prediction on top of it visible.
        thickness = 1 if lines.dash_px else lines.thickness
        draw_bev_boxes(panel, view, boxes.corners, colors, thickness, lines.dash_px, opacity, boxes.velocities)
        if with_scores and boxes.scores is not None:
            write_scores(panel, view, boxes.corners, _score_texts(boxes), colors, 7.5 * style.scale)


def _score_texts(boxes: BoxSet) -> list[str] | None:
    return None if boxes.scores is None else [f'{score:.2f}' for score in boxes.scores]


def _count(boxes: BoxSet | None, num_names: int) -> np.ndarray | None:
    return None if boxes is None else np.bincount(boxes.labels, minlength=num_names)
