"""What a picture needs, out of what a data sample carries: boxes, camera images with their matrices, points, title."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception3d.checks import InputError
from perception3d.files import read_array, read_image, read_points
from perception3d.geometry.augmentation import aug_from_lidar, move_boxes
from perception3d.visualization.draw import BoxSet, title_line
from perception3d.visualization.ground import Ground
from perception3d.visualization.layout import camera_place
from perception3d.visualization.wireframe import to_homogeneous


@dataclass(frozen=True)
class CameraViews:
    """Camera images by name, (H, W, 3) uint8 BGR, and for each the (4, 4) matrix to its pixels from the LiDAR frame."""

    images: dict[str, np.ndarray] = field(default_factory=dict)
    img_from_lidar: dict[str, np.ndarray] = field(default_factory=dict)


def boxes_of(instances: Any, score_thr: float | None = None) -> BoxSet | None:
    """Returns the boxes of mmengine instance data (`bboxes_3d`, `labels_3d`, maybe `scores_3d`), or None without any.

    Raises:
        InputError: the boxes are not in the LiDAR frame.
    """
    if instances is None or 'bboxes_3d' not in instances:
        return None
    scores = _to_numpy(instances.scores_3d) if 'scores_3d' in instances else None
    boxes = box_set(instances.bboxes_3d, instances.labels_3d, scores)
    return boxes if scores is None or score_thr is None else boxes.select(boxes.scores >= score_thr)


def box_set(bboxes_3d: Any, labels: Any, scores: Any = None) -> BoxSet:
    """Returns boxes of mmdet3d (LiDARInstance3DBoxes) or an array (N, 7 or 9) with their labels as a BoxSet."""
    kind = type(bboxes_3d).__name__
    if kind.startswith(('Camera', 'Depth')):
        raise InputError(f'{kind} cannot be drawn: convert the boxes to the LiDAR frame first')
    array = _to_numpy(getattr(bboxes_3d, 'tensor', bboxes_3d))
    return BoxSet(array, _to_numpy(labels), None if scores is None else _to_numpy(scores))


def ground_truth_of(data_sample: Any) -> BoxSet | None:
    """Returns the annotated boxes: those that training uses, else those kept for evaluation, else None.

    Those kept for evaluation are moved as mmdet3d's augmentation moved the cloud, so that they fit the predictions.
    """
    boxes = boxes_of(data_sample.get('gt_instances_3d'))
    annotations = data_sample.get('eval_ann_info')
    if boxes is None and annotations:
        boxes = box_set(annotations['gt_bboxes_3d'], annotations['gt_labels_3d'])
        if data_sample.metainfo.get('transformation_3d_flow'):
            boxes = BoxSet(move_boxes(boxes.boxes, aug_from_lidar(data_sample.metainfo)), boxes.labels, boxes.scores)
    return boxes


def camera_names(metas: Mapping[str, Any], num_images: int) -> list[str]:
    """Returns the names of the cameras of one frame; those of history frames are not repeated."""
    num_cameras = num_images // int(metas.get('num_frames') or 1)
    names = metas.get('cam_names')
    return [str(name) for name in names][:num_cameras] if names else [f'camera {i}' for i in range(num_cameras)]


def network_views(images: Any, metas: Mapping[str, Any], frame: int = 0) -> CameraViews:
    """Returns the images exactly as they enter the network, with the matrices that the network gets.

    Args:
        images: (F*N, 3, H, W) uint8 tensor, or a sequence of (H, W, 3) uint8 BGR; flat index frame * N + camera.
        metas: with `img_from_lidar` (F*N, 4, 4), and where known `cam_names`, `num_frames`.
        frame: 0 is the current frame. In an older one, boxes (of the current time) fit what stands still only.
    """
    if isinstance(images, torch.Tensor):
        if images.dtype != torch.uint8:
            raise InputError(f'images of type {images.dtype} cannot be drawn: hand in those before normalisation')
        images = images.detach().cpu().permute(0, 2, 3, 1).numpy()
    matrices = _matrices(metas, 'img_from_lidar', len(images))
    names = camera_names(metas, len(images))
    first = frame * len(names)
    if not 0 <= first < len(images):
        raise InputError(f'there is no frame {frame}: the sample has {len(images) // len(names)}, 0 is the current one')
    return CameraViews(
        {name: np.ascontiguousarray(images[first + i]) for i, name in enumerate(names)},
        {name: matrices[first + i] for i, name in enumerate(names)},
    )


def raw_views(metas: Mapping[str, Any]) -> CameraViews:
    """Reads the camera images of the current frame from their files, with the matrices of the unchanged images.

    `metas` holds `img_paths`, `cam2img` and `lidar2cam`, one entry an image, current frame first.
    """
    paths = list(metas['img_paths'])
    names = camera_names(metas, len(paths))
    cam2img = [_to_4x4(matrix) for matrix in metas['cam2img'][: len(names)]]
    lidar2cam = _matrices(metas, 'lidar2cam', len(paths))
    return CameraViews(
        # A camera that the sample lacks has no path.
        {name: read_image(path) for name, path in zip(names, paths, strict=False) if path},
        {name: cam2img[i] @ lidar2cam[i] for i, name in enumerate(names)},
    )


def stored_views(metas: Mapping[str, Any]) -> tuple[CameraViews, list[str]]:
    """Returns the camera images on disk that a sample names, and notes for the legend; without any, an empty set.

    Several cameras are as `raw_views` reads them. A single one, as in KITTI, has `img_path`, `cam2img` and `lidar2cam`;
    what mmdet3d's augmentation did to the boxes is undone in its matrix. Its missing file is a note, not an error:
    LiDAR data sets are often unpacked without their images.
    """
    if all(key in metas for key in ('img_paths', 'cam2img', 'lidar2cam')):
        return raw_views(metas), []
    if not _has_one_camera(metas) or not isinstance(metas.get('img_path'), str | Path):
        return CameraViews(), []
    path = Path(metas['img_path'])
    if not path.is_file():
        return CameraViews(), ['no camera image on disk']
    # The folder says which camera it is: image_2 is the left colour camera of KITTI.
    name = path.parent.name or 'camera'
    matrix = _single_img_from_lidar(metas) @ np.linalg.inv(aug_from_lidar(metas))
    return CameraViews({name: read_image(path)}, {name: matrix}), []


def info_views(info: Mapping[str, Any]) -> CameraViews:
    """Reads the camera images that an info entry (mmdet3d's layout, paths complete) names, with their matrices."""
    images, matrices = {}, {}
    for name, camera in info.get('images', {}).items():
        if camera.get('img_path'):
            images[name] = read_image(camera['img_path'])
            matrices[name] = _to_4x4(camera['cam2img']) @ _to_4x4(camera['lidar2cam'])
    return CameraViews(images, matrices)


def ground_of(metas: Mapping[str, Any]) -> Ground:
    """Returns which way is forward in the LiDAR frame of a sample, to the nearest axis, and whether only that is seen.

    The camera called front, or the only one, looks ahead. Several cameras of which none is called front belong to a
    frame as that of nuScenes (y), which the house's camera data sets share. Without cameras it is the x axis of the
    vehicle where `lidar2ego` is known, else x, as in most LiDAR data sets.
    """
    if metas.get('lidar2cam') is None:
        if metas.get('lidar2ego') is None:
            return Ground((1, 0))
        return Ground(_nearest_axis(_to_4x4(metas['lidar2ego'])[0, :2]))
    cameras = _to_numpy(metas['lidar2cam'])
    if cameras.ndim == 2:
        return Ground(_nearest_axis(cameras[2, :2]), only_ahead=True)
    names = camera_names(metas, len(cameras))
    ahead = [index for index, name in enumerate(names) if camera_place(name) == (0, 1)]
    if len(ahead) != 1:
        return Ground()
    # The augmentation of camera data is in lidar2cam too; the axis is that of the frame as it was.
    cam_from_lidar = _to_4x4(cameras[ahead[0]]) @ _to_4x4(metas.get('aug_from_lidar', np.eye(4)))
    return Ground(_nearest_axis(cam_from_lidar[2, :2]))


def points_of(metas: Mapping[str, Any]) -> tuple[np.ndarray | None, list[str]]:
    """Returns the points (N, 3) of the LiDAR file that `metas` names, or None, and notes for the legend.

    They are moved as the frame was augmented, so that they fit the boxes. Where a frame has one camera, only the points
    that it sees are returned: nothing else is labelled. A missing file is a note, not an error: camera data sets are
    often unpacked without their point clouds.
    """
    path = metas.get('lidar_path')
    if not path:
        return None, []
    if not Path(path).is_file():
        return None, ['no point cloud on disk']
    points = _read_xyz(path, int(metas.get('num_pts_feats') or 5))
    if _has_one_camera(metas) and metas.get('image_hw'):
        scaled = to_homogeneous(points, _single_img_from_lidar(metas))
        height, width = metas['image_hw']
        inside = (scaled >= 0).all(axis=1) & (scaled[:, :2] < scaled[:, 2:] * [width, height]).all(axis=1)
        points = points[inside]
    move = _to_4x4(metas['aug_from_lidar']) if 'aug_from_lidar' in metas else aug_from_lidar(metas)
    return (points @ move[:3, :3].T + move[:3, 3]).astype(np.float32), []


def _read_xyz(path: str | Path, num_features: int) -> np.ndarray:
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


def _has_one_camera(metas: Mapping[str, Any]) -> bool:
    """Whether the matrices of a sample are those of a single camera, as KITTI's are."""
    return all(np.ndim(metas.get(key)) == 2 for key in ('cam2img', 'lidar2cam'))


def _single_img_from_lidar(metas: Mapping[str, Any]) -> np.ndarray:
    return _to_4x4(metas['cam2img']) @ _to_4x4(metas['lidar2cam'])


def _nearest_axis(direction: np.ndarray) -> tuple[int, int]:
    """Returns which of +x, +y, -x, -y a direction (x, y) comes nearest to."""
    axis = int(np.abs(direction[1]) > np.abs(direction[0]))
    sign = 1 if direction[axis] >= 0 else -1
    return (0, sign) if axis else (sign, 0)


def _matrices(metas: Mapping[str, Any], key: str, num_images: int) -> np.ndarray:
    if key not in metas:
        raise InputError(f'the sample carries no {key!r}: add it to the meta keys of the last pipeline step')
    matrices = np.stack([_to_4x4(matrix) for matrix in metas[key]])
    if len(matrices) < num_images:
        raise InputError(f'{len(matrices)} matrices {key!r} came with {num_images} images: one is needed for each')
    return matrices


def _to_4x4(matrix: Any) -> np.ndarray:
    full, given = np.eye(4), _to_numpy(matrix).astype(np.float64)
    full[: given.shape[0], : given.shape[1]] = given
    return full


def _to_numpy(value: Any) -> np.ndarray:
    return value.detach().float().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
