"""Small trees of lane data sets, made by hand: grey images with four straight lanes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from perception3d.files import write_image

HW = (60, 164)


def straight_lane(bottom_x: float, top_x: float, hw: tuple[int, int] = HW, points: int = 5) -> np.ndarray:
    """Returns a lane (points, 2) from the bottom row to two fifths of the height."""
    y = np.linspace(hw[0], 0.4 * hw[0], points)
    return np.column_stack([np.linspace(bottom_x, top_x, points), y])


def four_lanes(hw: tuple[int, int] = HW) -> list[np.ndarray]:
    """Returns four lanes, right to left."""
    width = hw[1]
    places = [(1.1, 0.6), (0.7, 0.55), (0.3, 0.45), (-0.1, 0.4)]
    return [straight_lane(bottom * width, top * width, hw) for bottom, top in places]


def write_lane_image(path: Path, lanes: Sequence[np.ndarray], hw: tuple[int, int] = HW) -> None:
    """Writes a grey image with white lanes."""
    image = np.full((*hw, 3), 90, np.uint8)
    for lane in lanes:
        if len(lane) > 1:
            cv2.polylines(image, [np.rint(lane).astype(np.int32)], False, (255, 255, 255), 2)
    write_image(path, image)


def write_culane_tree(root: Path, hw: tuple[int, int] = HW) -> Path:
    """Writes three images of training, one of validation, two of the test, with plain lists and two categories."""
    names = {
        'train': ['driver_23_30frame/a.MP4/00000', 'driver_23_30frame/a.MP4/00030', 'driver_23_30frame/b.MP4/00000'],
        'val': ['driver_23_30frame/c.MP4/00000'],
        'test': ['driver_37_30frame/d.MP4/00000', 'driver_37_30frame/d.MP4/00030'],
    }
    (root / 'list/test_split').mkdir(parents=True)
    for split, frame_ids in names.items():
        (root / f'list/{split}.txt').write_text(''.join(f'/{name}.jpg\n' for name in frame_ids))
        for k, name in enumerate(frame_ids):
            lanes = four_lanes(hw)[: 4 - k]
            write_lane_image(root / f'{name}.jpg', lanes, hw)
            lines = (' '.join(f'{x:.4f} {y:g}' for x, y in lane) + ' \n' for lane in lanes)
            (root / f'{name}.lines.txt').write_text(''.join(lines))
    for file, name in zip(('test0_normal', 'test8_night'), names['test']):
        (root / f'list/test_split/{file}.txt').write_text(f'{name}.jpg\n')
    return root
