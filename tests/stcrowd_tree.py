"""A small STCrowd tree with the faults of the release: texts as numbers, wrong sides of images, sitting people, ..."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from kitti_tree import points_in

from perception3d.files import write_bytes, write_image
from perception3d.formats.stcrowd.files import (
    Camera,
    Frame,
    Image,
    Person,
    PersonInImage,
    Sequence,
    write_camera,
    write_sequence,
    write_split,
)

IMG_FROM_CAM = np.array([[683.8, 0, 673.5907, 0], [0, 684.147, 372.8048, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
CAM_FROM_LIDAR = np.array(
    [
        [0.00852965, -0.999945, -0.00606215, 0.0609592],
        [-0.0417155, 0.00570127, -0.999113, -0.144364],
        [0.999093, 0.00877497, -0.0416646, -0.0731114],
        [0, 0, 0, 1],
    ]
)
"""The matrices of the release."""
CAMERA = Camera(IMG_FROM_CAM, CAM_FROM_LIDAR)
SPLITS = {'train': ['3', '12'], 'val': ['33']}
STAND = (0.8, 0.5, 1.7)


def people_of(name: str, frame_id: int) -> tuple[Person, ...]:
    """The people of a frame: a walker, one who stands, one who sits, one behind the LiDAR, one with few points."""
    if name == '12' and frame_id == 2:
        return ()
    walker = Person(7, (5.0 + 0.5 * frame_id, 2.0, -0.6), STAND, 0.5, frame_id % 3)
    others = (
        Person(8, (8.0, -3.0, -0.6), STAND, 2.0, 0),
        Person(9, (6.0, 5.0, -0.9), (0.6, 0.6, 1.1), 0.0, 1),
        Person(10, (-6.0, 1.0, -0.6), STAND, 0.0, 0),
        Person(11, (20.0, 6.0, -0.6), STAND, -1.0, 2),
    )
    return (walker, *others)


def bottom_boxes(people: tuple[Person, ...], yaw_sign: int = 1) -> np.ndarray:
    """Boxes (M, 7) of people with the middle of the BOTTOM and a yaw that turns from x to y."""
    rows = [[*p.center_m[:2], p.center_m[2] - p.size_m[2] / 2, *p.size_m, yaw_sign * p.yaw_rad] for p in people]
    return np.array(rows, np.float64).reshape(-1, 7)


def write_tree(root: Path, yaw_sign: int = 1, frames: int = 3) -> Path:
    """Writes the tree; people have 40 points each in boxes whose yaw has the sign, the last one 5 of them.

    Paths are those of another machine. The walker goes at 0.5 m a frame along x.
    """
    rng = np.random.default_rng(0)
    for name in (name for names in SPLITS.values() for name in names):
        listed = []
        for k in range(frames):
            people, stamp = people_of(name, k), f'{1617249430 + 0.4 * k:.9f}'
            boxes = bottom_boxes(people, yaw_sign)
            clouds = [points_in(box, 5 if p.track_id == 11 else 40, rng) for box, p in zip(boxes, people)]
            ground = np.column_stack([rng.uniform(-30, 30, (50, 2)), np.full(50, -1.6)])
            xyz = np.concatenate([ground, *clouds])
            cloud = np.column_stack([xyz, rng.uniform(0, 1, len(xyz))]).astype(np.float32)
            write_bytes(root / 'pcd' / name / f'{stamp}.bin', cloud)
            write_image(root / 'left' / name / f'{name}_{k}.jpg', np.full((18, 32, 3), 40 * k, np.uint8))
            inside = tuple(PersonInImage(p.track_id, ((1.0, 2.0),) * 8, (1.0, 2.0, 3.0, 4.0), 1) for p in people[:1])
            images = (
                Image(f'/data/lab/STCrowd/left/{name}/{name}_{k}.jpg', 'left', inside),
                Image(f'/data/lab/STCrowd/right/{name}/{name}_{k}.jpg', 'left'),
            )
            listed.append(Frame(k, f'/data/lab/STCrowd/pcd/{name}/{stamp}.bin', people, images))
        write_sequence(root / 'anno' / f'{name}.json', Sequence(name, tuple(listed), int(name), 5))
    write_split(root / 'split.json', SPLITS)
    write_camera(root / 'camera.json', CAMERA)
    return root
