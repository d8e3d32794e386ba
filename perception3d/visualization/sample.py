"""The sensor frame of a sample: its images, matrices and points, out of its metas or of what entered the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception3d.checks import InputError
from perception3d.files import read_array, read_image, read_points
from perception3d.geometry.augmentation import aug_from_lidar
from perception3d.geometry.frustum import to_homogeneous
from perception3d.geometry.iou import to_numpy
from perception3d.structures.frame import X_FORWARD, LidarAxes, SensorFrame
from perception3d.structures.sample_schema import from_mmdet3d, has_images_alone, stored_from_lidar
from perception3d.visualization.draw import title_line

Cameras = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
# What a sample must have for pictures of its images on disk.
_STORED = ('img_paths', 'stored_from_cam', 'cam_from_lidar')
# Raw float32, and arrays of numpy; other files are read as raw float32 where nothing else gives their points.
_CLOUD_SUFFIXES = ('.bin', '.npy')


def read_frame(
    metas: Mapping[str, Any],
    images: Any = None,
    history: int = 0,
    with_cameras: bool = True,
    with_points: bool = True,
    points: Any = None,
) -> tuple[SensorFrame, list[str]]:
    """Returns the sensor frame of a sample, and notes for the legend about what is not there.

    Args:
        metas: of the sample, by the keys of `structures.sample_schema`: `img_from_lidar` with `images`, else
            `img_paths`, `stored_from_cam` and `cam_from_lidar`. A sample of mmdet3d, or its entry in an info file,
            paths complete, is read as well.
        images: the images as they entered the network, (F*N, 3, H, W) uint8 tensor or a sequence of (H, W, 3) uint8
            BGR, flat index frame * N + camera; None reads those on disk, as they were before any augmentation.
        history: 0 is the current frame, 1 the one before; only of `images`. In an older one, boxes (of the current
            time) fit only what does not move.
        with_cameras: reads the images.
        with_points: reads the points.
        points: (N, 3 or more) as they entered the network, or as a data set read them, in the LiDAR frame of the boxes:
            taken instead of those of the file.

    Raises:
        InputError: images and matrices do not fit each other, there is no such frame, or a file cannot be read. A cloud
            or the image of a single camera that is missing on disk is a note: data sets are often unpacked in part.
    """
    metas = from_mmdet3d(metas)
    if has_images_alone(metas):
        return read_images_alone(metas, images), []
    notes: list[str] = []
    if points is not None:
        points = to_numpy(points)
    elif with_points:
        points, notes = read_cloud(metas)
    cameras: Cameras = ({}, {})
    if with_cameras and images is not None:
        cameras = _network_cameras(images, metas, history)
    elif with_cameras:
        cameras, camera_notes = _stored_cameras(metas)
        notes = [*notes, *camera_notes]
    return SensorFrame(*cameras, points, axes_of(metas)), notes


def read_images_alone(metas: Mapping[str, Any], images: Any = None) -> SensorFrame:
    """Returns the frame of a sample without a LiDAR.

    Args:
        metas: of the sample: `img_paths`, `img_from_stored`, and where known `stored_hw`, `cam_names`, `channel_order`.
        images: those that entered the network, as of `read_frame`, or one alone, (3, H, W); None reads those on disk.

    Raises:
        InputError: images and matrices do not fit each other, or a file cannot be read.
    """
    if images is None:
        paths = [path for path in metas.get('img_paths', ()) if path]
        names = _camera_names(metas, len(paths))
        return SensorFrame({name: read_image(path) for name, path in zip(names, paths, strict=False)})
    images = _bgr_images(images, metas.get('channel_order') == 'rgb')
    names, matrices = _camera_names(metas, len(images)), _matrices(metas, 'img_from_stored')
    _require_one_each(matrices, 'img_from_stored', len(images))
    stored_hw = metas.get('stored_hw') or [image.shape[:2] for image in images]
    return SensorFrame(
        dict(zip(names, images, strict=False)),
        img_from_stored={name: matrices[i][:3, :3] for i, name in enumerate(names)},
        stored_wh={name: (int(stored_hw[i][1]), int(stored_hw[i][0])) for i, name in enumerate(names)},
    )


def frame_of_image(image: np.ndarray, name: str = 'front') -> SensorFrame:
    """Returns the frame of one image in memory (H, W, 3) uint8 BGR, as that of a video."""
    return SensorFrame({name: image})


def axes_of(metas: Mapping[str, Any]) -> LidarAxes:
    """Returns the axes of the LiDAR frame of a sample, as its data set states them; by default x forward, y left.

    Where a data set says `only_ahead`, only what its one camera sees is labelled.
    """
    only_ahead = bool(from_mmdet3d(metas).get('only_ahead'))
    return LidarAxes.from_text(metas.get('lidar_axes') or X_FORWARD.text, only_ahead)


def read_cloud(metas: Mapping[str, Any]) -> tuple[np.ndarray | None, list[str]]:
    """Returns the points (N, 3) of the LiDAR file that `metas` names, or None, and notes for the legend.

    They are moved as the frame was augmented, so that they fit the boxes. Of a frame that is `only_ahead`, only the
    points that its camera sees are returned: nothing else is labelled. A missing file is a note, not an error: camera
    data sets are often unpacked without their point clouds.
    """
    path = metas.get('lidar_path')
    if not path:
        return None, []
    if not Path(path).is_file():
        return None, ['no point cloud on disk']
    points = read_xyz(path, int(metas.get('num_pts_feats') or 5))
    if metas.get('only_ahead') and metas.get('stored_hw'):
        # The file has the points as stored, so the matrices of stored points are meant.
        scaled = to_homogeneous(points, (_matrices(metas, 'stored_from_cam') @ _matrices(metas, 'cam_from_lidar'))[0])
        height, width = metas['stored_hw'][0]
        inside = (scaled >= 0).all(axis=1) & (scaled[:, :2] < scaled[:, 2:] * [width, height]).all(axis=1)
        points = points[inside]
    move = _to_4x4(metas['aug_from_lidar']) if 'aug_from_lidar' in metas else aug_from_lidar(metas)
    return (points @ move[:3, :3].T + move[:3, 3]).astype(np.float32), []


def can_read_cloud(metas: Mapping[str, Any]) -> bool:
    """Whether `read_cloud` gives the points of a sample: its file is there, with a suffix that tells how to read it."""
    path = metas.get('lidar_path')
    return path is not None and Path(path).suffix in _CLOUD_SUFFIXES and Path(path).is_file()


def read_xyz(path: str | Path, num_features: int) -> np.ndarray:
    """Returns x, y, z (N, 3) float32 of a cloud (.bin of `num_features` floats a point, or .npy)."""
    if not str(path).endswith('.npy'):
        return read_points(path, num_features)[:, :3]
    points = read_array(path)
    if points.ndim != 2 or points.shape[1] < 3:
        raise InputError(f'{path} holds an array of shape {points.shape}: expected points, (N, 3 or more)')
    return points[:, :3].astype(np.float32)


def title_of(metas: Mapping[str, Any], extra: str = '') -> str:
    """Returns the title line of a sample: token, scene and time, where known."""
    time_s = metas.get('timestamp')
    if time_s is None and metas.get('img_timestamps_s') is not None:
        time_s = float(np.ravel(metas['img_timestamps_s'])[0])
    token = metas.get('token') or metas.get('sample_idx')
    scene = metas.get('scene_name') or metas.get('scene_token')
    return title_line('' if token is None else str(token), str(scene or ''), time_s, extra)


def names_images(metas: Mapping[str, Any]) -> bool:
    """Whether a sample names images on disk, with their matrices where it has a LiDAR."""
    metas = from_mmdet3d(metas)
    if has_images_alone(metas):
        return any(metas.get('img_paths', ()))
    return all(key in metas for key in _STORED) and any(metas['img_paths'])


def _camera_names(metas: Mapping[str, Any], num_images: int) -> list[str]:
    """Returns the names of the cameras of one frame; those of history frames are not repeated."""
    num_cameras = num_images // int(metas.get('num_frames') or 1)
    names = metas.get('cam_names')
    return [str(name) for name in names][:num_cameras] if names else [f'camera {i}' for i in range(num_cameras)]


def _bgr_images(images: Any, are_rgb: bool = False) -> list[np.ndarray]:
    """Returns the images that entered a network as (H, W, 3) uint8 BGR."""
    if hasattr(images, 'permute'):
        if images.dtype != torch.uint8:
            raise InputError(f'images of type {images.dtype} cannot be drawn: hand in those before normalisation')
        images = images[None] if images.ndim == 3 else images
        images = images.detach().cpu().permute(0, 2, 3, 1).numpy()
    return [np.ascontiguousarray(image[..., ::-1] if are_rgb else image) for image in images]


def _network_cameras(images: Any, metas: Mapping[str, Any], history: int) -> Cameras:
    images = _bgr_images(images)
    matrices = _matrices(metas, 'img_from_lidar')
    _require_one_each(matrices, 'img_from_lidar', len(images))
    names = _camera_names(metas, len(images))
    first = history * len(names)
    if not 0 <= first < len(images):
        count = len(images) // len(names)
        raise InputError(f'there is no frame {history}: the sample has {count}, 0 is the current one')
    return (
        {name: images[first + i] for i, name in enumerate(names)},
        {name: matrices[first + i] for i, name in enumerate(names)},
    )


def _stored_cameras(metas: Mapping[str, Any]) -> tuple[Cameras, list[str]]:
    """The images on disk that a sample names, their matrices, and notes; without any, nothing."""
    if not all(key in metas for key in _STORED):
        return ({}, {}), []
    paths = list(metas['img_paths'])
    for key in _STORED[1:]:
        _require_one_each(metas[key], key, len(paths))
    names = _camera_names(metas, len(paths))
    if metas.get('only_ahead') and not (paths[0] and Path(paths[0]).is_file()):
        return ({}, {}), ['no camera image on disk'] if paths[0] else []
    matrices = stored_from_lidar(metas)
    return (
        # An image that the sample lacks has no path.
        {name: read_image(path) for name, path in zip(names, paths, strict=False) if path},
        {name: matrices[i] for i, name in enumerate(names)},
    ), []


def _matrices(metas: Mapping[str, Any], key: str) -> np.ndarray:
    """Returns the matrices (I, 4, 4) of a key of the sample."""
    if key not in metas:
        raise InputError(f'the sample carries no {key!r}: add it to the meta keys of the last pipeline step')
    return np.stack([_to_4x4(matrix) for matrix in metas[key]])


def _require_one_each(matrices: np.ndarray | Sequence[Any], key: str, num_images: int) -> None:
    if len(matrices) < num_images:
        raise InputError(f'{len(matrices)} matrices {key!r} came with {num_images} images: one is needed for each')


def _to_4x4(matrix: Any) -> np.ndarray:
    full, given = np.eye(4), to_numpy(matrix).astype(np.float64)
    full[: given.shape[0], : given.shape[1]] = given
    return full
