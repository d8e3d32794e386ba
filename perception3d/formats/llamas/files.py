"""LLAMAS' files: label JSONs with markers, their lanes row by row, and masks of their markers; without torch.

The rules are those of the data set's own scripts (karstenBehrendt/unsupervised_llamas at 9b99f46: `label_file_scripts`,
`spline_creator`, `visualize_labels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError
from perception3d.files import read_json

SLOTS = ('l1', 'l0', 'r0', 'r1')
"""The borders of the ego lane are l0 and r0; values 1 to 4 of masks and of the names of result PNGs."""
SIZE_WH = (1276, 717)
SPLITS = ('train', 'valid', 'test')
IMAGE_FOLDER, LABEL_FOLDER = 'color_images', 'labels'
IMAGE_SUFFIX = '_color_rect.png'

Rows = npt.NDArray[np.float64]
Mask = npt.NDArray[np.uint8]
_LEAST_HEIGHT_PX, _LEAST_MARKERS = 20, 2
_MARKER_WIDTH_M = 0.1
# Blue, green, red of l7 .. l0, r0 .. r8 in the official picture: which pixels of an edge are exactly of one colour
# depends on them.
_NAMES = (*(f'l{k}' for k in range(7, -1, -1)), *(f'r{k}' for k in range(9)))
_COLORS = dict(zip(_NAMES, (
    (110, 30, 30), (75, 25, 230), (75, 180, 60), (200, 130, 0), (48, 130, 245), (180, 30, 145), (0, 0, 255),
    (24, 140, 34), (255, 0, 0), (0, 255, 255), (40, 110, 170), (200, 250, 255), (255, 190, 230), (0, 0, 128),
    (195, 255, 170), (0, 128, 128), (195, 255, 170),
)))  # fmt: skip


@dataclass(frozen=True)
class Markers:
    """The M markers of one line, each from its start, near the camera, to its end.

    pixels (M, 2, 2): start and end, x and y in whole pixels; world (M, 2, 3): the same in metres of the camera frame, z
    ahead.
    """

    name: str
    pixels: npt.NDArray[np.int64]
    world: Rows


@dataclass(frozen=True)
class Label:
    """A label file: its lines from left to right as they stand there, and the matrix (3, 3) to pixels."""

    lines: tuple[Markers, ...]
    pixel_from_camera: Rows


def read_label(path: str | Path) -> Label:
    """Returns the lines of a label file, cleaned as in the official scripts.

    Lines lower than 20 pixels and lines of one marker are left out; those that remain are counted from the ego vehicle
    outward on each side, so that l3, l2, l0 become l2, l1, l0.

    Raises:
        InputError: the file is missing or is no label file, or two lines have the same name; names it.
    """
    content = read_json(path, 'unpack the labels of LLAMAS')
    try:
        matrix = np.array(content['projection_matrix'], np.float64).reshape(3, 3)
        lines = [_markers(str(lane['lane_id']), lane['markers']) for lane in content['lanes']]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f'{path} is not a label file of LLAMAS with lanes, markers and projection_matrix ({error!r}): download it '
            'again'
        ) from error
    if not np.isfinite(matrix).all() or not all(np.isfinite(line.world).all() for line in lines):
        raise InputError(f'{path} holds numbers that are not finite: download it again')
    kept = [line for line in lines if len(line.pixels) >= _LEAST_MARKERS and _height(line) >= _LEAST_HEIGHT_PX]
    names: dict[str, str] = {}
    count = {'l': 0, 'r': 0}
    for name in sorted(line.name for line in kept):
        side = name[:1]
        if side not in count:
            raise InputError(f'{path}: lane_id {name!r}: expected l0, l1, .. and r0, r1, ..')
        if name in names:
            raise InputError(f'{path} has two lines of the lane_id {name!r}: expected each once, download it again')
        names[name] = f'{side}{count[side]}'
        count[side] += 1
    return Label(tuple(Markers(names[line.name], line.pixels, line.world) for line in kept), matrix)


def _markers(name: str, markers: Sequence[Any]) -> Markers:
    pixels = [[[int(marker[end][axis]) for axis in 'xy'] for end in ('pixel_start', 'pixel_end')] for marker in markers]
    world = [
        [[float(marker[end][axis]) for axis in 'xyz'] for end in ('world_start', 'world_end')] for marker in markers
    ]
    return Markers(name, np.array(pixels, np.int64).reshape(-1, 2, 2), np.array(world).reshape(-1, 2, 3))


def _height(line: Markers) -> int:
    starts = line.pixels[:, 0, 1]
    return int(starts.max() - starts.min())


def lane_rows(line: Markers) -> Rows:
    """Returns x (717,) in pixels of a line in each row of the image, -1 where it has none.

    The line is extended from its nearest marker to the edge of the image. Of all markers, each row has the mean x;
    between markers x goes straight. What lies outside of the rows of the image is left out (the official script stops).
    """
    found: list[list[int]] = [[] for _ in range(SIZE_WH[1])]
    for (start_x, start_y), (end_x, end_y) in [*_extension(line), *line.pixels.tolist()]:
        points = [(start_x, start_y)]
        height = start_y - end_y
        if height > 2:
            slope = (end_x - start_x) / height
            points += [(round(start_x + slope * k), start_y - k) for k in range(height + 1)]
        for x, y in points:
            if 0 <= y < len(found):
                found[y].append(x)
    rows = np.array([sum(xs) / len(xs) if xs else -1.0 for xs in found])
    known = np.flatnonzero(rows != -1).tolist()
    for low, high in zip(known, known[1:]):
        # Step by step, as the official script rounds.
        for y in range(low + 1, high):
            rows[y] = rows[y - 1] + (rows[high] - rows[y - 1]) / (high - y + 1)
    return rows


def _extension(line: Markers) -> list[list[list[int]]]:
    """Returns a marker from the edge of the image to the marker nearest to the camera, if there is one."""
    usable = [k for k, (start, end) in enumerate(line.pixels) if (start != end).all()]
    if not usable:
        return []
    nearest = min(usable, key=lambda k: line.world[k, 0, 2])
    if line.world[nearest, 0, 2] < 0:
        return []
    (start_x, start_y), (end_x, end_y) = line.pixels[nearest].tolist()
    width, bottom = SIZE_WH[0], SIZE_WH[1] - 1
    x: float = start_x + (bottom - start_y) * ((end_x - start_x) / (end_y - start_y))
    y: float = bottom
    slope = (end_y - start_y) / (end_x - start_x)
    if x < 0:
        x, y = 0, start_y - start_x * slope
    elif x > width:
        x, y = width, start_y + (width - start_x) * slope
    return [[[round(x), round(y)], [start_x, start_y]]]


def label_lanes(label: Label, first_row: int = 0) -> tuple[list[Rows], list[int]]:
    """Returns the lanes (M, 2) of a label, bottom first, a point for each row that has one, and their slots.

    Lanes of fewer than two points are left out, as are lines that are none of SLOTS.

    Args:
        label: of `read_label`.
        first_row: rows above are left out; the official evaluation of splines begins at 300.
    """
    rows_of = {line.name: line for line in label.lines}
    lanes, slots = [], []
    for slot, name in enumerate(SLOTS):
        if name not in rows_of:
            continue
        rows = lane_rows(rows_of[name])
        y = np.flatnonzero(rows >= 0)
        y = y[y >= first_row][::-1]
        if len(y) > 1:
            lanes.append(np.column_stack([rows[y], y.astype(np.float64)]))
            slots.append(slot)
    return lanes, slots


def marker_mask(label: Label) -> Mask:
    """Returns the markers (717, 1276) as the official segmentation label has them: 0, or 1 + slot.

    A marker is 0.1 m wide and drawn twice with smoothed edges, line by line; a pixel that is not exactly of the colour
    of one of the four lines is background.
    """
    image = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    for line in label.lines:
        color = _COLORS.get(line.name, (1, 1, 1))
        for ends in line.world:
            # Behind the camera a marker has no place in the image.
            if ends[:, 2].min() > 0:
                _draw_marker(image, ends, label.pixel_from_camera, color)
    mask = np.zeros(image.shape[:2], np.uint8)
    for slot, name in enumerate(SLOTS):
        mask[(image == _COLORS[name]).all(axis=2)] = slot + 1
    return mask


def _draw_marker(image: Mask, ends: Rows, pixel_from_camera: Rows, color: tuple[int, int, int]) -> None:
    corners = []
    for end, sides in zip(ends, ((-1, 1), (1, -1))):
        projected = pixel_from_camera @ end
        projected = projected / projected[2]
        half = pixel_from_camera[0, 0] * _MARKER_WIDTH_M / end[2] / 2.0
        corners += [(projected[0] + side * half, projected[1]) for side in sides]
    rounded = np.round(np.array(corners, np.float32))
    if np.abs(rounded).max() < 1 << 15 and rounded[0, 1] != rounded[3, 1]:
        points = rounded.astype(np.int32)
        for _ in range(2):
            cv2.fillConvexPoly(image, points, color, cv2.LINE_AA, 0)
