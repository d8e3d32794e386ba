"""A small LLAMAS tree made by hand: grey images of the full size, lines of dashed markers on a flat road."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from perception3d.files import write_image, write_json

MATRIX = [[1400.0, 0, 640], [0, 1400, 330], [0, 0, 1]]
# x of the lines on the road, metres; l3 is the second one on the left.
LINES = {'l0': -1.7, 'l3': -5.2, 'r0': 1.9, 'r1': 5.4}


def marker(x: float, near: float, far: float, number: int = 0) -> dict[str, Any]:
    """Returns a marker on the road 1.5 m below the camera, from a distance to another, metres."""
    ends = {'start': (x, 1.5, near), 'end': (x + 0.004 * far, 1.5, far)}
    entry: dict[str, Any] = {'lane_marker_id': str(number)}
    for name, point in ends.items():
        pixel = np.array(MATRIX) @ point
        entry[f'pixel_{name}'] = {axis: str(round(value / pixel[2])) for axis, value in zip('xy', pixel)}
        entry[f'world_{name}'] = {axis: str(value) for axis, value in zip('xyz', point)}
    return entry


def label(lines: dict[str, float] | None = None) -> dict[str, Any]:
    """Returns a label with dashes of 3 m at 8, 17, .. m."""
    lanes = [
        {'lane_id': name, 'markers': [marker(x, z, z + 3, number) for number, z in enumerate(range(8, 60, 9))]}
        for name, x in (LINES if lines is None else lines).items()
    ]
    return {'image_name': 'x', 'projection_matrix': MATRIX, 'lanes': lanes}


def write_llamas_tree(root: Path) -> Path:
    """Writes an image of train, two of valid, of which one has no lane on the right, and one of the test."""
    image = np.full((717, 1276, 3), 90, np.uint8)
    names = {'train': ['rec-a/1'], 'valid': ['rec-b/1', 'rec-b/2'], 'test': ['rec-c/1']}
    for split, stems in names.items():
        for stem in stems:
            write_image(root / f'color_images/{split}/{stem}_color_rect.png', image)
            if split != 'test':
                lines = {k: v for k, v in LINES.items() if k[0] == 'l'} if stem == 'rec-b/2' else None
                write_json(root / f'labels/{split}/{stem}.json', label(lines))
    return root
