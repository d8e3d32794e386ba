"""Loading of LiDAR points with the checks that bad files need, and the crop to what a camera sees."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet3d.datasets.transforms import LoadPointsFromFile

from perception3d.checks import InputError
from perception3d.datasets.point_clouds import in_image, read_cloud
from perception3d.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadCheckedPoints(LoadPointsFromFile):
    """mmdet3d's LoadPointsFromFile that refuses a bad file by name instead of training on it, and reads `.npy`.

    Adds `points` (LiDARPoints) of `lidar_points['lidar_path']`. A missing, truncated or empty file and NaN or infinity
    in it are InputErrors.

    Args:
        load_dim: floats a point in the file.
        use_dim: how many of them to keep, or which.
        coord_type: as of LoadPointsFromFile.
    """

    def __init__(self, load_dim: int = 4, use_dim: int | list[int] = 4, coord_type: str = 'LIDAR') -> None:
        most = use_dim if isinstance(use_dim, int) else max(use_dim) + 1
        if most > load_dim:
            raise InputError(f'use_dim {use_dim} asks for more than the load_dim {load_dim} floats of a point')
        super().__init__(coord_type=coord_type, load_dim=load_dim, use_dim=use_dim)

    def _load_points(self, pts_filename: str) -> np.ndarray:
        return read_cloud(pts_filename, self.load_dim)


@TRANSFORMS.register_module()
class CropToImage(BaseTransform):
    """Keeps the points that the camera of `lidar2img` (4, 4) and `image_hw` sees.

    KITTI labels nothing else. mmdet3d writes a second, cropped copy of all scans for that; this takes less than a
    millisecond a frame. It belongs right behind the loading, before anything moves the points.
    """

    def transform(self, results: dict) -> dict:
        """Filters `points`."""
        points = results['points']
        results['points'] = points[in_image(points.tensor.numpy(), results['lidar2img'], results['image_hw'])]
        return results
