"""Depth and class of every pixel of an image with lanes, where a data set has them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from perception3d.checks import InputError, require_file, unknown_name
from perception3d.registry import TRANSFORMS
from perception3d.structures.lanes import IGNORED

DEPTH_PER_M = 256.0
"""Values of a depth PNG for each metre."""
_KEYS = {'depth': 'depth_path', 'semantic': 'semantic_path'}


@TRANSFORMS.register_module()
class LoadPixelTargets(BaseTransform):
    """Loads the PNGs of depth and class of an image, moved as the image was.

    The step comes after those that move `img`: it reads `img_from_stored` and gives each pixel of `img` the value of
    the nearest stored one; rows that a crop cut off come back where an augmentation moves them into the picture. Adds
    `depth_m` (H, W) float32, metres, 0 for none, and `semantic` (H, W) uint8; pixels of no stored image have depth 0
    and class 255.

    Args:
        names: 'depth', 'semantic', or both.

    Raises:
        InputError: a name is unknown; a sample has no such file, or one that is damaged or of another size.
    """

    def __init__(self, names: tuple[str, ...] = ('depth', 'semantic')) -> None:
        for name in names:
            if name not in _KEYS:
                raise unknown_name('pixel target', name, _KEYS)
        self.names = tuple(names)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds the maps."""
        if 'depth' in self.names:
            results['depth_m'] = _moved(_read(results, 'depth', np.uint16), results, 0).astype(np.float32) / DEPTH_PER_M
        if 'semantic' in self.names:
            results['semantic'] = _moved(_read(results, 'semantic', np.uint8), results, IGNORED)
        return results


def _read(results: dict[str, Any], name: str, dtype: Any) -> np.ndarray:
    path = results.get(_KEYS[name])
    if path is None:
        raise InputError(
            f'{results["img_paths"][0]} has no {_KEYS[name]} in its info file: only the built-in world writes extra/ '
            'with depths and classes (tools/simulate.py culane), before the info files are made'
        )
    image = cv2.imread(str(require_file(path, 'check the data root')), cv2.IMREAD_UNCHANGED)
    stored_hw = tuple(results['stored_hw'][0])
    if image is None or image.dtype != dtype or image.shape != stored_hw:
        found = 'nothing that decodes' if image is None else f'{image.dtype} {image.shape}'
        raise InputError(f'{path}: expected a PNG of one channel, {np.dtype(dtype)} {stored_hw}, got {found}')
    return image


def _moved(stored: np.ndarray, results: dict[str, Any], beyond: int) -> np.ndarray:
    height, width = results['img_hw']
    stored_from_img = np.linalg.inv(results['img_from_stored'][0][:3, :3])
    # Pixel centres are half a pixel from the corner that the matrices count from.
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    u, v = np.floor(stored_from_img[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])).astype(np.int64)
    inside = (u >= 0) & (v >= 0) & (u < stored.shape[1]) & (v < stored.shape[0])
    moved = np.full(height * width, beyond, stored.dtype)
    moved[inside] = stored[v[inside], u[inside]]
    return moved.reshape(height, width)
