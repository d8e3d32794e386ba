"""Info files and ground-truth database of a KITTI object tree, in mmdet3d's layout (info_version 1.1).

`create_infos` writes `<root>/perception3d_infos_<split>.pkl` for every split that ImageSets has, and the database of
`train`, or of `trainval` where there is no `train`. Paths in them are relative to the root. What mmdet3d's own infos
lack is added: the frame id, whether there are labels, and the class names next to the label numbers. Points outside the
left colour image count nowhere, as only what that camera sees is labelled.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception3d.checks import InputError, require_folder
from perception3d.datasets.frame_building import (
    INFO_FILE,
    database_split,
    map_frames,
    read_splits,
    require_frame_files,
)
from perception3d.datasets.ground_truth_database import new_database, write_database_info, write_objects_of_frame
from perception3d.datasets.object_count import count_labels
from perception3d.datasets.point_clouds import in_image, read_cloud
from perception3d.files import write_pickle
from perception3d.formats.kitti.files import (
    Calibration,
    Objects,
    boxes_lidar_from_camera,
    image_hw,
    line_of,
    read_calibration,
    read_objects,
)
from perception3d.formats.kitti.rules import CATEGORIES, DIFFICULTIES, DONT_CARE
from perception3d.ops.inside_boxes import rows_in_boxes

NUM_FEATURES = 4
_SUFFIXES = {'velodyne': '.bin', 'calib': '.txt', 'image_2': '.png', 'label_2': '.txt'}


@dataclass(frozen=True)
class InfoSettings:
    """What create_infos asks for.

    sensors: 'camera' and 'lidar', or 'lidar' alone: then no image is needed and every image counts as `image_hw`
    (pixels, height and width). The usual size of KITTI's images is the default; they differ by a few pixels.
    """

    sensors: tuple[str, ...] = ('camera', 'lidar')
    image_hw: tuple[int, int] = (375, 1242)

    def __post_init__(self) -> None:
        if 'lidar' not in self.sensors or not set(self.sensors) <= {'camera', 'lidar'}:
            raise InputError(f'sensors must be lidar, or camera and lidar, got {list(self.sensors)}')
        if min(self.image_hw) < 1:
            raise InputError(f'image size {self.image_hw[1]} x {self.image_hw[0]}: expected at least 1 x 1 pixels')


@dataclass(frozen=True)
class Frame:
    """One frame to build: `folder` is 'training' or 'testing'; `labelled` frames have a label file."""

    folder: str
    frame_id: str
    labelled: bool
    in_database: bool

    def file(self, part: str) -> str:
        """Returns the path of a file relative to the root; `part` is its folder, such as 'velodyne'."""
        return f'{self.folder}/{part}/{self.frame_id}{_SUFFIXES[part]}'


def difficulties(objects: Objects) -> npt.NDArray[Any]:
    """Returns (N,) int64: 0 easy, 1 moderate, 2 hard, -1 none of them, by the rules of the benchmark."""
    height = objects.boxes_2d[:, 3] - objects.boxes_2d[:, 1]
    level = np.full(len(objects), -1)
    for step in (2, 1, 0):
        rule = DIFFICULTIES[step]
        fits = height >= rule.min_height_px
        fits &= (objects.occluded <= rule.max_occlusion) & (objects.truncated <= rule.max_truncation)
        level[fits] = step
    level[objects.names == DONT_CARE] = -1
    return level


def _images(frame: Frame, calibration: Calibration, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Describes the four cameras; all matrices are (4, 4) and lidar2cam leads to the rectified camera 0."""
    cam_from_lidar = calibration.cam_from_lidar()
    images: dict[str, Any] = {}
    for camera in range(4):
        cam2img = calibration.img_from_cam(camera)
        images[f'CAM{camera}'] = {'cam2img': cam2img.tolist(), 'lidar2img': (cam2img @ cam_from_lidar).tolist()}
    height, width = size_hw
    images['CAM2'].update(img_path=frame.file('image_2'), height=height, width=width, lidar2cam=cam_from_lidar.tolist())
    rectify = np.eye(4)
    rectify[:3, :3] = calibration.rectification
    images['R0_rect'] = rectify.tolist()
    return images


def _instances(objects: Objects, calibration: Calibration, counts: npt.NDArray[Any]) -> list[dict[str, Any]]:
    """Lists the objects in the order of the file, DontCare included; bbox_3d is x, y, z, l, h, w, rotation_y (camera).

    center_2d (pixels) and depth (m) are those of the box's middle in camera 2, counts (N,) the points in each box.
    """
    middle = objects.bottom_centers_m - objects.sizes_m[:, :1] / 2 * [0, 1, 0]
    projected = np.column_stack([middle, np.ones(len(objects))]) @ calibration.img_from_cam()[:3].T
    level = difficulties(objects)
    lhw = objects.sizes_m[:, [2, 0, 1]]
    found = []
    for i, name in enumerate(objects.names.tolist()):
        label = CATEGORIES.index(name) if name in CATEGORIES else -1
        found.append(
            {
                'name': name,
                'bbox': objects.boxes_2d[i].tolist(),
                'bbox_label': label,
                'bbox_label_3d': label,
                'bbox_3d': [*objects.bottom_centers_m[i].tolist(), *lhw[i].tolist(), float(objects.rotation_y_rad[i])],
                'center_2d': (projected[i, :2] / projected[i, 2]).tolist(),
                'depth': float(projected[i, 2]),
                'num_lidar_pts': int(counts[i]),
                'difficulty': int(level[i]),
                'truncated': float(objects.truncated[i]),
                'occluded': int(objects.occluded[i]),
                'alpha': float(objects.alpha_rad[i]),
                'score': 0.0,
                'index': i if name != DONT_CARE else -1,
                'group_id': i,
            }
        )
    return found


def build_frame(
    frame: Frame, root: Path, settings: InfoSettings, database: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the info of a frame and the entries of its objects in the database, whose files it writes there.

    Raises InputError, which names the file, for points, a calibration, labels or an image that cannot be used.
    """
    calibration = read_calibration(root / frame.file('calib'))
    size_hw = image_hw(root / frame.file('image_2')) if 'camera' in settings.sensors else settings.image_hw
    points = read_cloud(root / frame.file('velodyne'), NUM_FEATURES)
    to_camera = np.eye(4)
    to_camera[:3] = calibration.cam0_from_lidar_3x4
    info: dict[str, Any] = {
        'sample_idx': int(frame.frame_id),
        'frame_id': frame.frame_id,
        'labelled': frame.labelled,
        'images': _images(frame, calibration, size_hw),
        'lidar_points': {
            'num_pts_feats': NUM_FEATURES,
            'lidar_path': frame.file('velodyne'),
            'Tr_velo_to_cam': to_camera.tolist(),
        },
        'instances': [],
    }
    if not frame.labelled:
        return info, []
    objects = _read_labels(root / frame.file('label_2'))
    points = points[in_image(points, np.array(info['images']['CAM2']['lidar2img']), size_hw)]
    real = np.flatnonzero(objects.names != DONT_CARE)
    boxes = boxes_lidar_from_camera(objects.select(real), np.linalg.inv(calibration.cam_from_lidar()))
    rows = rows_in_boxes(points, boxes)
    counts = np.full(len(objects), -1)
    counts[real] = [len(own) for own in rows]
    info['instances'] = _instances(objects, calibration, counts)
    if not frame.in_database:
        return info, []
    named = objects.names[real].tolist()
    entries = write_objects_of_frame(
        database, frame.frame_id, points, boxes, rows, named, difficulties(objects)[real].tolist()
    )
    return info, entries


def _read_labels(path: Path) -> Objects:
    objects = read_objects(path)
    for row, name in enumerate(objects.names.tolist()):
        if not re.fullmatch(r'[\w.+-]+', name):
            line = line_of(path, row)
            raise InputError(f'{path}, line {line}: {name!r} is not a class name: use letters, digits and _')
    flat = np.flatnonzero((objects.sizes_m <= 0).any(1) & (objects.names != DONT_CARE))
    if len(flat):
        line, name = line_of(path, flat[0]), objects.names[flat[0]]
        raise InputError(f'{path}, line {line}: a {name} without height, width or length')
    return objects


def _frames(splits: dict[str, list[str]], root: Path) -> dict[tuple[str, str], Frame]:
    """Returns (folder, frame id) -> frame, each once though trainval repeats train and val."""
    frames: dict[tuple[str, str], Frame] = {}
    pasted = set(splits.get(database_split(splits) or '', ()))
    for split, ids in splits.items():
        folder = 'testing' if split == 'test' else 'training'
        labelled = split != 'test' or (root / folder / 'label_2').is_dir()
        for frame_id in ids:
            in_database = folder == 'training' and frame_id in pasted
            frames.setdefault((folder, frame_id), Frame(folder, frame_id, labelled, in_database))
    return frames


def create_infos(
    root: str | Path, settings: InfoSettings | None = None, jobs: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Checks the tree, then writes the info file of every split of ImageSets, and the database of `train`.

    Where there is no `train`, the database is that of `trainval`.

    Nothing is replaced before every frame was read, so that an error or an interruption leaves earlier files as they
    were. The result does not depend on `jobs`, the number of processes (default: see map_frames).

    Returns {'splits': split -> {'path', 'frames', 'classes': {name: count}, 'notes'}, 'database': {name: count}}; notes
    say how many objects are of no use, and why.

    Raises:
        InputError: files are missing, which are counted and named, or one cannot be used.
    """
    settings = settings or InfoSettings()
    root = require_folder(Path(root).resolve(), 'give --root the folder that holds ImageSets, training, testing')
    splits = read_splits(root, r'\d{6}', '000123')
    frames = _frames(splits, root)
    parts = ('velodyne', 'calib', *(('image_2',) if 'camera' in settings.sensors else ()))
    wanted: dict[str, list[str]] = {}
    for frame in frames.values():
        for part in (*parts, *(('label_2',) if frame.labelled else ())):
            wanted.setdefault(f'{frame.folder}/{part}', []).append(f'{frame.frame_id}{_SUFFIXES[part]}')
    require_frame_files(root, wanted)
    with new_database(root) as database:
        build = partial(build_frame, root=root, settings=settings, database=database)
        built = dict(zip(frames, map_frames(build, list(frames.values()), jobs, progress)))
    counts = write_database_info(root, (entry for _, entries in built.values() for entry in entries))
    summary = {}
    for split, ids in splits.items():
        folder = 'testing' if split == 'test' else 'training'
        summary[split] = _write_split(root, split, [built[folder, frame_id][0] for frame_id in ids])
    return {'splits': summary, 'database': counts}


def _write_split(root: Path, split: str, infos: list[dict[str, Any]]) -> dict[str, Any]:
    """Writes the info file of a split; returns what create_infos reports of it."""
    counts = Counter(box['name'] for info in infos for box in info['instances'])
    others = sorted(counts.keys() - set(CATEGORIES))
    metainfo = {
        'categories': {**{name: label for label, name in enumerate(CATEGORIES)}, **dict.fromkeys(others, -1)},
        'dataset': 'kitti',
        'split': split,
        'info_version': '1.1',
    }
    path = root / INFO_FILE.format(split)
    write_pickle(path, {'metainfo': metainfo, 'data_list': infos})
    classes = {name: counts[name] for name in (*CATEGORIES, *others) if counts[name]}
    notes = count_labels(str(path), infos, list(classes)).left_out()
    return {'path': path, 'frames': len(infos), 'classes': classes, 'notes': notes}
