"""A small handmade KITTI tree: boxes at random places with points in them, ground points, and real file formats."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from perception3d.formats.kitti.files import (
    Calibration,
    camera_corners,
    camera_fields_from_lidar,
    objects_from_table,
    observation_angle,
    write_calibration,
    write_objects,
)

SIZES_LWH = {
    'Car': (3.9, 1.6, 1.5),
    'Van': (5.0, 1.9, 2.1),
    'Pedestrian': (0.8, 0.6, 1.7),
    'Cyclist': (1.8, 0.6, 1.7),
}
IMAGE_HW = (375, 1242)
POINTS_IN_BOX = 30
_DONT_CARE = [-1, -1, -10, 500.0, 170.0, 520.0, 180.0, -1, -1, -1, -1000, -1000, -1000, -10]


def tilted_calibration() -> Calibration:
    """A calibration like KITTI's, whose scanner is a little tilted and shifted."""
    projection = np.array([[720.0, 0, 610, 45], [0, 720, 173, 0.2], [0, 0, 1, 0.003]])
    small = 0.01
    tilt = np.array([[1, -small, 0], [small, 1, -small], [0, small, 1]])
    rectify, _ = np.linalg.qr(tilt)
    rectify *= np.sign(np.diag(rectify))
    axes = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    return Calibration((projection,) * 4, rectify, np.column_stack([axes, [0.0, -0.08, -0.27]]))


def png_bytes(height: int, width: int) -> bytes:
    """A grey PNG image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    head = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b'\0' * ((width + 1) * height), 1)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')


def points_in(box: Sequence[float], count: int, rng: np.random.Generator) -> np.ndarray:
    """Points (count, 3) inside a box x, y, z (bottom), l, w, h, yaw, a little off its faces."""
    local = rng.uniform(-0.48, 0.48, (count, 3)) * box[3:6] + [0, 0, box[5] / 2]
    cos, sin = np.cos(box[6]), np.sin(box[6])
    turned = local @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return turned + box[:3]


def random_boxes(names: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Boxes (N, 7) on the ground before the car, 6 m apart or more, in the scanner's frame."""
    places = [(x, y) for x in np.arange(10.0, 40.0, 8.0) for y in (-4.0, 4.0)]
    chosen = rng.permutation(len(places))[: len(names)]
    spread = rng.uniform(-1, 1, (len(names), 2))
    return np.array(
        [
            [places[k][0] + dx, places[k][1] * places[k][0] / 20 + dy, -1.7, *SIZES_LWH[name], rng.uniform(-3, 3)]
            for name, k, (dx, dy) in zip(names, chosen, spread)
        ]
    ).reshape(-1, 7)


class KittiTree:
    """Writes frames below `root`; `boxes` keeps what was written, frame id -> (names, boxes (N, 7) in lidar)."""

    def __init__(self, root: Path, seed: int = 0) -> None:
        self.root = Path(root)
        self.seed = seed
        self.calibration = tilted_calibration()
        self.boxes: dict[str, tuple[list[str], np.ndarray]] = {}

    def write(self, splits: Mapping[str, Sequence[str]]) -> Path:
        """Writes split files and all frames; every third frame has no objects, and test frames have no labels."""
        for split, ids in splits.items():
            path = self.root / 'ImageSets' / f'{split}.txt'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(''.join(f'{frame_id}\n' for frame_id in ids))
            for frame_id in ids:
                self.write_frame('testing' if split == 'test' else 'training', frame_id)
        return self.root

    def write_frame(self, folder: str, frame_id: str) -> None:
        """Writes the files of one frame."""
        rng = np.random.default_rng([self.seed, int(frame_id)])
        names = [] if int(frame_id) % 3 == 2 else list(rng.permutation(['Car', 'Car', 'Van', 'Pedestrian', 'Cyclist']))
        boxes = random_boxes(names, rng)
        home = self.root / folder
        for part in ('velodyne', 'calib', 'image_2'):
            (home / part).mkdir(parents=True, exist_ok=True)
        write_calibration(home / 'calib' / f'{frame_id}.txt', self.calibration)
        (home / 'image_2' / f'{frame_id}.png').write_bytes(png_bytes(*IMAGE_HW))
        if folder == 'training':
            self._write_labels(home / 'label_2' / f'{frame_id}.txt', names, boxes)
            self.boxes[frame_id] = ([str(name) for name in names], boxes)
        ground = np.column_stack([rng.uniform(-60, 60, (500, 2)), np.full(500, -1.75)])
        xyz = np.concatenate([ground, *(points_in(box, POINTS_IN_BOX, rng) for box in boxes)])
        cloud = np.column_stack([xyz, rng.uniform(0, 1, len(xyz))]).astype(np.float32)
        cloud.tofile(home / 'velodyne' / f'{frame_id}.bin')

    def _write_labels(self, path: Path, names: Sequence[str], boxes: np.ndarray) -> None:
        sizes, places, rotation = camera_fields_from_lidar(boxes, self.calibration.cam_from_lidar())
        pixels = camera_corners(sizes, places, rotation) @ self.calibration.projections[2][:, :3].T
        pixels = pixels + self.calibration.projections[2][:, 3]
        pixels = pixels[..., :2] / pixels[..., 2:]
        box_2d = np.concatenate([pixels.min(1), pixels.max(1)], 1).clip(0, [1241, 374, 1241, 374])
        alpha = observation_angle(places, rotation)
        flags = np.column_stack([np.zeros(len(names)), np.arange(len(names)) % 4])
        table = np.column_stack([flags, alpha, box_2d, sizes, places, rotation]).reshape(-1, 14)
        write_objects(path, objects_from_table([*names, 'DontCare'], np.vstack([table, _DONT_CARE]), scored=False))
