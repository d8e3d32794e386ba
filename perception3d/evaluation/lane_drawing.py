"""Lanes drawn as bands, and their overlap, bit for bit as CULane's official tool (SCNN, tools/lane_evaluation) has it.

The tool draws every lane once for each pair, in two images of the whole size. Here a lane is drawn once, in the part of
the image that it touches; the pixels are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_SAMPLES = 50
"""Samples of each part of a spline between two points."""
_NO_INTEGER = -(1 << 31)
"""What the conversion to int gives for NaN and for numbers that do not fit."""


@dataclass(frozen=True)
class LaneBand:
    """The pixels of a drawn lane.

    Attributes:
        left, top: pixel of the image that the first pixel of the mask is.
        mask: (h, w) uint8, 1 in the band and 0 elsewhere; the band has no pixel outside of it.
        area: pixels of the band; 0 for a lane outside of the image.
    """

    left: int
    top: int
    mask: npt.NDArray[np.uint8]
    area: int


def _spline_samples(lane: Floats) -> Floats:
    """Returns the points (S, 2) float32 that the tool joins by straight lines, of a lane (M, 2), M 2 or more.

    Two points stay as they are. Of more, x and y are natural cubic splines of the length of the chords, sampled
    50 times in each part, and the last point follows. Two equal points in a row make every sample but the last NaN.
    """
    if len(lane) == 2:
        return lane
    # The tool subtracts the float32 points of OpenCV before it goes on in double precision.
    steps = np.diff(lane, axis=0).astype(np.float64)
    lengths = np.sqrt(steps[:, 0] ** 2 + steps[:, 1] ** 2)
    samples = np.full(((len(lane) - 1) * _SAMPLES + 1, 2), np.nan, np.float32)
    samples[-1] = lane[-1]
    if lengths.all():
        bends = _second_derivatives(steps, lengths)
        h = lengths[:, None]
        linear = steps / h - (2 * h * bends[:-1] + h * bends[1:]) / 6
        cubic = (bends[1:] - bends[:-1]) / (6 * h)
        t = (h / _SAMPLES * np.arange(_SAMPLES))[..., None]
        values = lane[:-1, None] + linear[:, None] * t + (bends[:-1] / 2)[:, None] * t**2 + cubic[:, None] * t**3
        samples[:-1] = values.reshape(-1, 2)
    return samples


def _second_derivatives(steps: npt.NDArray[np.float64], lengths: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns those of x and y at the points (M, 2), 0 at both ends: a tridiagonal system, by elimination."""
    h = lengths.tolist()
    slopes = steps / lengths[:, None]
    right = (6 * (slopes[1:] - slopes[:-1])).tolist()
    upper: list[float] = []
    found: list[tuple[float, float]] = []
    for k, (x, y) in enumerate(right):
        pivot = 2 * (h[k] + h[k + 1])
        if k:
            pivot -= h[k] * upper[-1]
            x, y = x - h[k] * found[-1][0], y - h[k] * found[-1][1]
        upper.append(h[k + 1] / pivot)
        found.append((x / pivot, y / pivot))
    bends = np.zeros((len(h) + 1, 2))
    x, y = found[-1]
    bends[len(found)] = x, y
    for k in range(len(found) - 2, -1, -1):
        x, y = found[k][0] - upper[k] * x, found[k][1] - upper[k] * y
        bends[k + 1] = x, y
    return bends


def draw_lane(lane: npt.NDArray[Any], size_wh: tuple[int, int], width_px: int) -> LaneBand | None:
    """Returns the band `width_px` wide of a lane (M, 2) of x and y in pixels; None for fewer than two points.

    Samples of the spline are rounded, halves to even, and joined by `cv2.line`, which rounds off the ends.
    """
    if len(lane) < 2:
        return None
    # Points may be as far away as a text can say.
    with np.errstate(invalid='ignore', over='ignore'):
        pixels = _whole_pixels(_spline_samples(np.asarray(lane, np.float32)))
    margin = width_px // 2 + 2
    left, top = (max(0, int(value) - margin) for value in pixels.min(axis=0))
    right, bottom = (min(end, int(value) + margin + 1) for end, value in zip(size_wh, pixels.max(axis=0)))
    if right <= left or bottom <= top:
        return LaneBand(0, 0, np.zeros((0, 0), np.uint8), 0)
    mask = np.zeros((bottom - top, right - left), np.uint8)
    # Where the image is cut, all of the lane is on one side, so that no line is clipped in another place than in the
    # whole image, and nothing is shifted that does not fit into int32.
    cv2.polylines(mask, [(pixels - (left, top)).astype(np.int32)], False, [1], width_px)
    return LaneBand(left, top, mask, cv2.countNonZero(mask))


def _whole_pixels(samples: Floats) -> npt.NDArray[np.int64]:
    """Returns samples as OpenCV rounds them, without repeats in a row: a line of no length only repeats an end."""
    rounded = np.rint(samples)
    fits = np.abs(rounded) < -_NO_INTEGER
    pixels = np.where(fits, rounded, _NO_INTEGER).astype(np.int64)
    moved = (np.diff(pixels, axis=0) != 0).any(axis=1)
    if not moved.any():
        return pixels[:2]
    kept: npt.NDArray[np.int64] = pixels[np.concatenate([[True], moved])]
    return kept


def lane_ious(rows: Sequence[LaneBand | None], columns: Sequence[LaneBand | None]) -> npt.NDArray[np.float64]:
    """Returns the IoU (R, C) of bands: 0 for a lane of fewer than two points, NaN where neither band has pixels."""
    return np.array([[_iou(row, column) for column in columns] for row in rows]).reshape(len(rows), len(columns))


def _iou(one: LaneBand | None, other: LaneBand | None) -> float:
    if one is None or other is None:
        return 0.0
    left, top = max(one.left, other.left), max(one.top, other.top)
    right = min(one.left + one.mask.shape[1], other.left + other.mask.shape[1])
    bottom = min(one.top + one.mask.shape[0], other.top + other.mask.shape[0])
    shared = 0
    if left < right and top < bottom:
        parts = [
            band.mask[top - band.top : bottom - band.top, left - band.left : right - band.left] for band in (one, other)
        ]
        shared = cv2.countNonZero(cv2.bitwise_and(*parts))
    union = one.area + other.area - shared
    return shared / union if union else math.nan
