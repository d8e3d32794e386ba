"""The grid of a sample's camera images: by the names of the cameras where they contain a position, else in rows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

_ROW = {'FRONT': 0, 'SIDE': 1, 'BACK': 2, 'REAR': 2}
_COLUMN = {'LEFT': 0, 'RIGHT': 2}
GAP = (38, 32, 28)


def camera_grid(names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Returns (row, column) of each camera.

    FRONT is above BACK (or REAR), LEFT and RIGHT are as seen from above, so that a name such as
    CAM_FRONT_LEFT is enough. Where two cameras have one position, or a name contains none, all are laid out in rows
    in the given order.
    """
    claimed = {name: camera_position(name) for name in names}
    positions = {name: position for name, position in claimed.items() if position is not None}
    if len(positions) < len(names) or len(set(positions.values())) < len(positions):
        num_columns = max(1, math.ceil(math.sqrt(len(names))))
        return {name: divmod(index, num_columns) for index, name in enumerate(names)}
    rows = sorted({row for row, _ in positions.values()})
    columns = sorted({column for _, column in positions.values()})
    return {name: (rows.index(row), columns.index(column)) for name, (row, column) in positions.items()}


def fit_images(
    images: Mapping[str, np.ndarray], width_px: int, max_cell_height_px: int, gap_px: int = 4
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, tuple[int, int]], tuple[int, int]]:
    """Scales images to the cells of a grid `width_px` wide.

    Returns:
        Scaled images (each keeps its own aspect), their scale factors (pixels of the scaled image per pixel of the
        original), their top left corners (left, top) in the grid, and the size (width, height) of the grid.
    """
    grid = camera_grid(list(images))
    rows = 1 + max(row for row, _ in grid.values())
    columns = 1 + max(column for _, column in grid.values())
    cell_width = (width_px - (columns - 1) * gap_px) // columns
    tallest = max(image.shape[0] / image.shape[1] for image in images.values())
    cell_height = min(round(cell_width * tallest), max_cell_height_px)
    scaled, scales, corners = {}, {}, {}
    for name, image in images.items():
        row, column = grid[name]
        scale = min(cell_width / image.shape[1], cell_height / image.shape[0])
        scaled[name], scales[name] = resize(image, scale), scale
        height, width = scaled[name].shape[:2]
        corners[name] = (
            column * (cell_width + gap_px) + (cell_width - width) // 2,
            row * (cell_height + gap_px) + (cell_height - height) // 2,
        )
    return scaled, scales, corners, (width_px, rows * cell_height + (rows - 1) * gap_px)


def resize(image: np.ndarray, scale: float) -> np.ndarray:
    """Returns a resized copy: area average when it shrinks, cubic when it grows."""
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    if size == (image.shape[1], image.shape[0]):
        return image.copy()
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def camera_position(name: str) -> tuple[int, int] | None:
    """Returns (row, column) in a grid of 3 x 3 from the name of a camera, (0, 1) for FRONT; None where it has none."""
    words = [word for word in re.split(r'[^A-Z]+', name.upper()) if word]
    rows = {_ROW[word] for word in words if word in _ROW}
    columns = {_COLUMN[word] for word in words if word in _COLUMN}
    if len(rows) > 1 or len(columns) > 1 or not (rows or columns):
        return None
    return (rows.pop() if rows else 1), (columns.pop() if columns else 1)
