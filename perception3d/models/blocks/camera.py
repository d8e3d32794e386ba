"""What camera detectors share: the projections of a batch, and grids and boxes that follow the ground.

The distance of an object follows from the pixel of its lowest point, so a grid must know the height of the road: 0.15 m
of error at a camera 1.5 m high is a tenth of the distance. In a fleet sensors are mounted at different heights, but the
ego frame lies on the road, and the calibration from LiDAR to ego says where that is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmdet3d.structures import Det3DDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from perception3d.checks import InputError, require_equal_numbers


def ground_plane(ego_from_lidar: np.ndarray) -> np.ndarray:
    """Plane (..., 3) of the ego frame's ground, z = p[0] + p[1]*x + p[2]*y in metres of the LiDAR frame (..., 4, 4)."""
    row = ego_from_lidar[..., 2, :]
    if np.any(np.abs(row[..., 2]) < 0.1):
        raise InputError(
            'the z axis of the LiDAR frame lies in the ground plane: ego_from_lidar (lidar_points.lidar2ego of an info '
            'file or JSON frame) must lead to x forward, z up'
        )
    return np.stack([-row[..., 3], -row[..., 0], -row[..., 1]], -1) / row[..., 2:3]


def sample_planes(samples: Sequence[Det3DDataSample]) -> np.ndarray:
    """Planes (B, 3) of samples in their present LiDAR frame, which augmentation may have moved.

    Raises InputError where a sample has no `ego_from_lidar`.
    """
    poses = []
    for sample in samples:
        if 'ego_from_lidar' not in sample.metainfo:
            token = sample.metainfo.get('token', '')
            raise InputError(
                f'sample {token} has no ego_from_lidar, but the grid of this model follows the ground (ground_z_m): '
                'give the frame lidar_points.lidar2ego, 4 x 4, to the ego frame on the road, and let the pipeline pack '
                'ego_from_lidar'
            )
        pose = np.asarray(sample.metainfo['ego_from_lidar'], np.float64)
        poses.append(pose @ np.linalg.inv(sample.metainfo.get('aug_from_lidar', np.eye(4))))
    return ground_plane(np.stack(poses))


def follow_ground(img_from_lidar: np.ndarray, planes: np.ndarray, ground_z_m: float) -> np.ndarray:
    """Projections (B, F, N, 4, 4) of points whose height counts from the plane (B, 3), which lies at `ground_z_m`.

    A shear along z: x and y stay those of the LiDAR frame.
    """
    shear = np.tile(np.eye(4), (len(planes), 1, 1))
    shear[:, 2, :2], shear[:, 2, 3] = planes[:, 1:], planes[:, 0] - ground_z_m
    return img_from_lidar @ shear[:, None, None]


def ground_offset(boxes: Tensor, plane: np.ndarray, ground_z_m: float) -> Tensor:
    """How much higher (N,) in metres the plane (3,) is under `boxes` (N, >=2) than `ground_z_m`."""
    height, slope_x, slope_y = plane.tolist()
    return height - ground_z_m + slope_x * boxes[:, 0] + slope_y * boxes[:, 1]


def samples_above_ground(samples: list[Det3DDataSample], ground_z_m: float | None) -> list[Det3DDataSample]:
    """Samples whose ground truth has its heights counted as grids at `ground_z_m` count them; None changes nothing."""
    if ground_z_m is None:
        return samples
    moved = []
    for sample, plane in zip(samples, sample_planes(samples), strict=True):
        copied = sample.new()
        truth = copied.gt_instances_3d = sample.gt_instances_3d.clone()
        # The copies of mmengine share their fields.
        truth.bboxes_3d = truth.bboxes_3d.clone()
        values = truth.bboxes_3d.tensor
        values[:, 2] -= ground_offset(values, plane, ground_z_m)
        moved.append(copied)
    return moved


def lift_to_lidar(boxes: Sequence[InstanceData], samples: Sequence[Det3DDataSample], ground_z_m: float) -> None:
    """Counts the heights of predicted `boxes` from the LiDAR again, in place; the inverse of samples_above_ground."""
    for prediction, plane in zip(boxes, sample_planes(samples), strict=True):
        values = prediction.bboxes_3d.tensor
        values[:, 2] += ground_offset(values, plane, ground_z_m)


def collect_projections(images: Tensor, samples: list[Det3DDataSample]) -> np.ndarray:
    """Collects (B, F, N, 4, 4) projections and checks them against the images (B, F*N, 3, H, W)."""
    if images.ndim != 5:
        raise InputError(f'images must be (batch, frames * cameras, 3, H, W), got {tuple(images.shape)}')
    collected = []
    for sample in samples:
        matrices = sample.metainfo.get('img_from_lidar')
        frames = int(sample.metainfo.get('num_frames', 1))
        if matrices is None:
            raise InputError('a sample has no img_from_lidar: the pipeline must end in a packing step that keeps it')
        matrices = np.asarray(matrices)
        if len(matrices) != images.shape[1] or len(matrices) % frames:
            raise InputError(f'{images.shape[1]} images, {len(matrices)} projections and {frames} frames do not agree')
        collected.append(matrices.reshape(frames, -1, *matrices.shape[1:]))
    if len({m.shape for m in collected}) != 1 or len(collected) != len(images):
        raise InputError('the samples of a batch differ in their number of cameras or frames')
    return np.stack(collected)


def plane_shape(maps: Tensor) -> tuple[int, int]:
    """Returns the size of the last two axes of images or maps: height and width, or cells along x and y."""
    first, second = maps.shape[-2:]
    return first, second


def unpadded_hw(images: Tensor, samples: list[Det3DDataSample]) -> tuple[int, int]:
    """Height and width of the images before padding; the size of `images` where samples have no `img_hw`."""
    height, width = samples[0].metainfo.get('img_hw') or plane_shape(images)
    return int(height), int(width)


def require_head_range(place: str, range_m: Sequence[float], head: nn.Module) -> None:
    """Compares the range of a bird's-eye grid with the one that the head on its map takes the map to cover.

    Args:
        place: name of the grid in the model.
        range_m: (x0, y0, x1, y1) that it covers, metres.
        head: the head; one without `map_range_m` is not compared.

    Raises:
        InputError: they differ, so that every box would lie elsewhere.
    """
    of_head = getattr(head, 'map_range_m', None)
    if of_head is not None:
        place = f'the range of {place} in metres (x0, y0, x1, y1)'
        require_equal_numbers(place, range_m, 'that of the map of bbox_head is', of_head)
