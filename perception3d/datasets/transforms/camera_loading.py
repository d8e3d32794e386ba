"""Loading of multi-view, multi-frame images and of LiDAR points, with the checks that bad files need."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet3d.structures.points import LiDARPoints

from perception3d.checks import InputError
from perception3d.files import read_image, read_points
from perception3d.geometry.camera import chain
from perception3d.registry import TRANSFORMS


def update_matrices(results: dict) -> None:
    """Recomputes `img_from_lidar` (I, 4, 4) = img_post · cam2img · lidar2cam for the pixels as they are now."""
    results['img_from_lidar'] = chain(results['img_post'], results['cam2img'], results['lidar2cam'])


def read_sized_image(path: str, size_wh: tuple[int, int]) -> np.ndarray:
    """Returns an image (H, W, 3) uint8 BGR; InputError if it is missing, damaged, or not of the size in its table."""
    image = read_image(path)
    if image.shape[1::-1] != tuple(size_wh):
        found, stated = 'x'.join(map(str, image.shape[1::-1])), 'x'.join(map(str, size_wh))
        raise InputError(
            f'{path} is {found} pixels, but its table says {stated}: the intrinsics would not fit, '
            'use the original images or correct the tables and run tools/create_data.py again'
        )
    return image


@TRANSFORMS.register_module()
class LoadMultiViewHistory(BaseTransform):
    """Loads the images of all frames and cameras, index = frame * cameras + camera.

    Adds `img` (a list of (H, W, 3) uint8 BGR), `img_post` (I, 4, 4), the identity until an image is resized, and
    `img_from_lidar` (I, 4, 4). A file that appears in several frames, as at the start of a scene, is read once.

    Args:
        threads: Threads that decode; more than 1 helps where there are more cores than loader processes.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def transform(self, results: dict) -> dict:
        """Reads `img_paths`, checks them against `img_sizes`; raises InputError that names the file."""
        sizes = dict(zip(results['img_paths'], results['img_sizes']))
        if self.threads > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                images = dict(zip(sizes, pool.map(read_sized_image, sizes.keys(), sizes.values())))
        else:
            images = {path: read_sized_image(path, size) for path, size in sizes.items()}
        results['img'] = [images[path] for path in results['img_paths']]
        results['img_post'] = np.broadcast_to(np.eye(4), (len(results['img']), 4, 4)).copy()
        results['ori_shape'] = results['img_shape'] = results['img'][0].shape[:2]
        update_matrices(results)
        return results


@TRANSFORMS.register_module()
class LoadLidarPoints(BaseTransform):
    """Loads the sweep of the current keyframe as `points`, LiDAR frame, metres.

    Args:
        use_dim: Which features to keep, x, y, z first; nuScenes stores x, y, z, intensity, ring.
    """

    def __init__(self, use_dim: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        self.use_dim = list(use_dim)

    def transform(self, results: dict) -> dict:
        """Reads `lidar_path`; raises InputError for a missing or truncated file and for points that are not finite."""
        path = results['lidar_path']
        points = read_points(path, results.get('num_pts_feats', 5))[:, self.use_dim]
        bad = int((~np.isfinite(points).all(1)).sum())
        if bad:
            raise InputError(f'{path} has {bad} of {len(points)} points that are NaN or infinite: write the file again')
        results['points'] = LiDARPoints(points, points_dim=points.shape[1])
        return results
