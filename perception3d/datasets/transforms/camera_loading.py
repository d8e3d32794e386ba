"""Loading of multi-view, multi-frame images, with the checks that bad files need."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from perception3d.checks import InputError, require_file
from perception3d.files import read_image
from perception3d.geometry.camera import chain
from perception3d.registry import TRANSFORMS


def update_matrices(results: dict) -> None:
    """Recomputes `img_from_lidar` (I, 4, 4) for the pixels and the LiDAR frame as they are now."""
    results['img_from_lidar'] = chain(results['img_from_stored'], results['stored_from_cam'], results['cam_from_lidar'])


def read_sized_image(path: str, stored_hw: tuple[int, int], reduce: int = 1) -> np.ndarray:
    """Returns an image (H, W, 3) uint8 BGR; InputError if it is missing, damaged, or not of the size in its table.

    With `reduce` 2, 4 or 8 a JPEG is decoded straight to that fraction of its size, which is faster and smooths. An
    empty path is that of a camera which the sample lacks: a black image.
    """
    expected = tuple(-(-size // reduce) for size in stored_hw)
    if not path:
        return np.zeros((*expected, 3), np.uint8)
    if reduce == 1:
        image = read_image(path)
    else:
        stored = np.fromfile(require_file(path), np.uint8)
        decoded = cv2.imdecode(stored, _REDUCED[reduce]) if stored.size else None
        if decoded is None:
            raise InputError(f'{path} does not decode as an image: it is damaged, copy or download it again')
        image = decoded
    if image.shape[:2] != expected:
        found, stated = ('x'.join(map(str, hw[::-1])) for hw in (image.shape[:2], expected))
        raise InputError(
            f'{path} is {found} pixels, but its table says {stated}: the intrinsics would not fit, '
            'use the original images or correct the tables and run tools/create_data.py again'
        )
    return image


_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


@TRANSFORMS.register_module()
class LoadMultiViewHistory(BaseTransform):
    """Loads the images of all frames and cameras, index = frame * cameras + camera.

    Adds `img` (a list of (H, W, 3) uint8 BGR), `img_from_stored`, `img_from_lidar` and `img_hw`. A file that appears in
    several frames, as at the start of a scene, is read once.

    Args:
        threads: Threads that decode; more than 1 helps where there are more cores than loader processes.
        reduce: Decode at 1/2, 1/4 or 1/8 of the size, for inputs that are that much smaller than the images: 2.5 times
            faster at 2. The matrices stay true; pixels differ a little from those of a full decode.
    """

    def __init__(self, threads: int = 1, reduce: int = 1) -> None:
        if reduce not in (1, *_REDUCED):
            raise InputError(f'reduce must be 1, 2, 4 or 8, got {reduce}')
        self.threads = threads
        self.reduce = reduce

    def transform(self, results: dict) -> dict:
        """Reads `img_paths`, checks them against `stored_hw`; raises InputError that names the file."""
        # Pairs, since every missing image has the same, empty path.
        wanted = list(zip(results['img_paths'], map(tuple, results['stored_hw'])))
        distinct = list(dict.fromkeys(wanted))
        read = partial(read_sized_image, reduce=self.reduce)
        if self.threads > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                images = dict(zip(distinct, pool.map(read, *zip(*distinct))))
        else:
            images = {pair: read(*pair) for pair in distinct}
        results['img'] = [images[pair] for pair in wanted]
        post = np.diag([1 / self.reduce, 1 / self.reduce, 1, 1])
        results['img_from_stored'] = np.broadcast_to(post, (len(results['img']), 4, 4)).copy()
        results['img_hw'] = results['img'][0].shape[:2]
        update_matrices(results)
        return results
