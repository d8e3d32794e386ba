"""Lines, polygons and text on a BGR picture: anti-aliased, placed to a sixteenth of a pixel, clipped to the picture.

Coordinates are (u, v) in pixels, u to the right, v down; whole numbers are pixel centres.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Color = Sequence[int]
Position = Sequence[float] | np.ndarray

_SHIFT = 4
_ONE = 1 << _SHIFT
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DARK = (16, 14, 12)


def stroke(
    canvas: np.ndarray,
    segments: np.ndarray,
    color: Color,
    thickness: int = 1,
    dash_px: tuple[float, float] | None = None,
    halo: bool = False,
) -> None:
    """Draws line segments in place.

    Args:
        canvas: (H, W, 3) uint8.
        segments: (N, 2, 2) end points (u, v) in pixels; clipped to the canvas first.
        color: blue, green, red.
        thickness: in pixels.
        dash_px: lengths of dash and gap; a segment shorter than two dashes is drawn solid, so that small boxes keep
            their shape. None draws solid lines.
        halo: draws a dark line underneath, two pixels wider, so that the line is visible on any background.
    """
    height, width = canvas.shape[:2]
    segments = clip_to_rectangle(np.asarray(segments, np.float64), width, height, margin=8.0)
    if dash_px is not None:
        segments = _dashes(segments, *dash_px)
    fixed = np.rint(segments * _ONE).astype(np.int64)
    passes = [(_DARK, thickness + 2), (color, thickness)] if halo else [(color, thickness)]
    for pass_color, width_px in passes:
        bgr = _plain(pass_color)
        for start, end in fixed.tolist():
            cv2.line(canvas, start, end, bgr, width_px, cv2.LINE_AA, _SHIFT)


def polyline(points: np.ndarray) -> np.ndarray:
    """Returns the segments (N, 2, 2) of the closed polygon with the corners `points` (N, 2)."""
    return np.stack([points, np.roll(points, -1, axis=0)], axis=1)


def fill(canvas: np.ndarray, polygons: Sequence[np.ndarray], colors: Sequence[Color], opacity: float) -> None:
    """Fills convex polygons, each (N, 2) pixels, in place; all are blended at once, with `opacity` 0..1."""
    if not len(polygons) or opacity <= 0:
        return
    layer = canvas.copy()
    for polygon, color in zip(polygons, colors, strict=True):
        if len(polygon) >= 3:
            fixed = np.rint(np.clip(polygon, -1e5, 1e5) * _ONE).astype(np.int32)
            cv2.fillConvexPoly(layer, fixed, _plain(color), cv2.LINE_AA, _SHIFT)
    cv2.addWeighted(layer, opacity, canvas, 1 - opacity, 0, dst=canvas)


def circle(canvas: np.ndarray, center: Position, radius: float, color: Color, thickness: int = 1) -> None:
    """Draws a circle in place; centre and radius in pixels, a negative thickness fills it."""
    middle = [round(float(value) * _ONE) for value in center]
    cv2.circle(canvas, middle, round(radius * _ONE), _plain(color), thickness, cv2.LINE_AA, _SHIFT)


def arrow(canvas: np.ndarray, start: Position, end: Position, color: Color, thickness: int = 1) -> None:
    """Draws an arrow in place from `start` to `end` (u, v); the head is a third of the length, 4 to 10 pixels."""
    tail, tip = np.asarray(start, np.float64), np.asarray(end, np.float64)
    length = float(np.hypot(*(tip - tail)))
    if length < 1.0:
        return
    along = (tip - tail) / length
    across = np.array([-along[1], along[0]])
    head = min(max(length / 3, 4.0), 10.0)
    wings = [tip - head * along + 0.5 * head * side * across for side in (-1, 1)]
    segments = np.array([[tail, tip], [tip, wings[0]], [tip, wings[1]]])
    stroke(canvas, segments, color, thickness, halo=True)


def text_size(text: str, height_px: float) -> tuple[int, int]:
    """Returns the width and the height in pixels that `text` needs when its capitals are `height_px` high."""
    (width, height), _ = cv2.getTextSize(text, _FONT, height_px / 21.0, _weight(height_px))
    return width, height


def text(
    canvas: np.ndarray,
    text: str,
    corner: Sequence[float],
    color: Color = (235, 235, 235),
    height_px: float = 10.0,
    plate: float = 0.0,
) -> None:
    """Writes `text` in place, its top left corner at `corner`, moved into the canvas where it would not fit.

    `plate` 0..1 darkens a box behind the text by that much. Characters outside ASCII are replaced: the font has none.
    """
    text = text.encode('ascii', 'replace').decode()
    wide, high = text_size(text, height_px)
    pad = max(2, round(height_px / 4))
    left = round(min(max(float(corner[0]), 0), max(canvas.shape[1] - wide - 2 * pad, 0)))
    top = round(min(max(float(corner[1]), 0), max(canvas.shape[0] - high - 2 * pad, 0)))
    if plate > 0:
        area = canvas[top : top + high + 2 * pad, left : left + wide + 2 * pad]
        area[:] = (area * (1 - plate)).astype(np.uint8)
    origin = (left + pad, top + pad + high)
    cv2.putText(canvas, text, origin, _FONT, height_px / 21.0, _plain(color), _weight(height_px), cv2.LINE_AA)


def clip_to_rectangle(segments: np.ndarray, width: float, height: float, margin: float = 0.0) -> np.ndarray:
    """Clips segments (N, 2, 2) to the rectangle of `width` x `height` pixels plus `margin`; drops those outside.

    Liang-Barsky, all segments at once. Non-finite segments are dropped.
    """
    segments = segments[np.isfinite(segments).all(axis=(1, 2))]
    start, step = segments[:, 0], segments[:, 1] - segments[:, 0]
    upper = np.array([width - 1 + margin, height - 1 + margin])
    enter, leave = np.zeros(len(segments)), np.ones(len(segments))
    for distance, slope in ((start + margin, step), (upper - start, -step)):
        for axis in (0, 1):
            enter, leave = _narrow(enter, leave, distance[:, axis], slope[:, axis])
    kept = enter <= leave
    start, step, enter, leave = start[kept], step[kept], enter[kept, None], leave[kept, None]
    return np.stack([start + enter * step, start + leave * step], axis=1)


def _narrow(enter: np.ndarray, leave: np.ndarray, value: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, ...]:
    """Narrows the parameter ranges [enter, leave] to where value + t * slope >= 0."""
    with np.errstate(divide='ignore', invalid='ignore'):
        root = -value / slope
    enter = np.where(slope > 0, np.maximum(enter, root), enter)
    leave = np.where(slope < 0, np.minimum(leave, root), leave)
    leave = np.where((slope == 0) & (value < 0), -1.0, leave)
    return enter, leave


def _dashes(segments: np.ndarray, dash: float, gap: float) -> np.ndarray:
    pieces = []
    for start, end in segments:
        length = float(np.hypot(*(end - start)))
        count = int(round((length + gap) / (dash + gap)))
        if count < 2:
            pieces.append(np.stack([start, end])[None])
            continue
        # The period is stretched so that the segment starts and ends with a dash: corners stay visible.
        period = (length + gap) / count
        begin = np.arange(count) * period / length
        finish = np.minimum(begin + (period - gap) / length, 1.0)
        ends = np.stack([begin, finish], axis=1)[..., None]
        pieces.append(start + ends * (end - start))
    return np.concatenate(pieces) if pieces else segments


def _plain(color: Color) -> tuple[int, int, int]:
    return int(color[0]), int(color[1]), int(color[2])


def _weight(height_px: float) -> int:
    return max(1, round(height_px / 11))
