"""Where the points of a cloud lie in the image of its one camera, for models that paint them with image features."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from perception3d.checks import InputError
from perception3d.datasets.point_clouds import in_image
from perception3d.datasets.transforms.camera_augment import ImageAugment
from perception3d.datasets.transforms.camera_loading import LoadMultiViewHistory
from perception3d.geometry.camera import transform
from perception3d.registry import TRANSFORMS


@TRANSFORMS.register_module()
class AddImagePixels(BaseTransform):
    """Loads the image of the first camera, and adds three numbers to each point: its pixel u, v and 1 if it is seen.

    It belongs right behind the loading: steps that move points keep these numbers, so that no augmentation has to be
    undone. Seen is what lies before the camera and within its image; what is not seen has u = v = 0 and a last number
    of 0. A sample without an image, or whose file is not there, is no error: it gets a black one and no seen point.
    `img` is then (H, W, 3) uint8 BGR.

    Args:
        final_hw: height and width of the network's image: the stored one is resized to the width and cut in its middle.
        drop: share of the samples that are taken to have no image, in training, so that one model serves both.
    """

    def __init__(self, final_hw: tuple[int, int], drop: float = 0.0) -> None:
        if not 0 <= drop < 1:
            raise InputError(f'AddImagePixels: drop {drop}: expected a share of 0 up to 1')
        self.final_hw, self.drop = (int(final_hw[0]), int(final_hw[1])), drop
        self.steps = LoadMultiViewHistory(), ImageAugment(self.final_hw, test_mode=True)
        self._told = False

    def transform(self, results: dict) -> dict:
        """Adds `img`, changes `points` from (N, F) to (N, F + 3); InputError for an image that cannot be used."""
        points = results['points']
        cloud = points.tensor.numpy()
        added = np.zeros((len(cloud), 3), np.float32)
        dropped = self.drop > 0 and np.random.uniform() < self.drop
        results['img'] = np.zeros((*self.final_hw, 3), np.uint8)
        if self._has_image(results) and not dropped:
            first = {key: value[:1] for key, value in results.items() if key in _OF_ONE_IMAGE}
            for step in self.steps:
                first = step.transform(first)
            results['img'] = first['img'][0]
            matrix = first['img_from_lidar'][0]
            seen = in_image(cloud, matrix, self.final_hw)
            projected = transform(cloud[seen, :3].astype(np.float64), matrix)
            added[seen, :2] = projected[:, :2] / projected[:, 2:3]
            added[seen, 2] = 1
        results['points'] = type(points)(np.column_stack([cloud, added]), points_dim=cloud.shape[1] + 3)
        return results

    def _has_image(self, results: dict) -> bool:
        path = (results.get('img_paths') or [''])[0]
        if path and not Path(path).is_file() and not self._told:
            self._told = True
            print_log(
                f'{path} is not there: such frames are detected from their clouds alone', 'current', logging.WARNING
            )
        return bool(path) and Path(path).is_file()


_OF_ONE_IMAGE = ('img_paths', 'stored_hw', 'stored_from_cam', 'cam_from_lidar')
