"""Loading of images with lanes, and the size that a network takes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from perception3d.checks import InputError
from perception3d.datasets.lane_masks import draw_lane_mask, read_lane_mask
from perception3d.files import read_image
from perception3d.registry import TRANSFORMS


def move_image(results: dict[str, Any], after_from_before: np.ndarray) -> None:
    """Updates `img_from_stored` (1, 4, 4) by an affine map (3, 3) of pixels, and `img_hw`, once `img` has moved.

    Points on an image are (u*d, v*d, d, 1), as in `structures.sample_schema`.
    """
    move = np.eye(4)
    move[:3, :3] = after_from_before
    results['img_from_stored'] = move @ results['img_from_stored']
    results['img_hw'] = results['img'].shape[:2]


@TRANSFORMS.register_module()
class LoadLaneImage(BaseTransform):
    """Loads the image of a sample as `img` (H, W, 3) uint8 RGB, and in training `lane_mask` (H, W) uint8.

    The mask is that of `lane_mask_path`; without one the lanes are drawn, those of no slot as ignored. Adds
    `img_from_stored` (1, 4, 4), the identity, and `img_hw`.

    Args:
        with_mask: load or draw the mask, of samples that are labelled.
        lane_width_px: width of drawn lanes, stored pixels; CULane's masks have 16.

    Raises:
        InputError: a file is missing or damaged, the image or the mask has another size than in the info file, or the
            mask has a value that is no slot.
    """

    def __init__(self, with_mask: bool = False, lane_width_px: int = 16) -> None:
        if lane_width_px < 1:
            raise InputError(f'lane_width_px is {lane_width_px}: expected 1 or more')
        self.with_mask = with_mask
        self.lane_width_px = lane_width_px

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds the image, and the mask of a labelled sample."""
        (path,), (stored_hw,) = results['img_paths'], results['stored_hw']
        # A frame of a video is loaded already.
        image = results.pop('stored_image', None)
        if image is None:
            image = read_image(path)
        if image.shape[:2] != tuple(stored_hw):
            found, wanted = ('x'.join(map(str, hw[::-1])) for hw in (image.shape[:2], stored_hw))
            raise InputError(
                f'{path} is {found} pixels, but its info file says {wanted}: the lanes would not fit, use the original '
                'images or run tools/create_data.py again'
            )
        results['img'] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        results['channel_order'] = 'rgb'
        results['img_from_stored'] = np.eye(4)[None]
        results['img_hw'] = image.shape[:2]
        if self.with_mask and 'lanes' in results:
            results['lane_mask'] = self._mask(results, tuple(stored_hw))
        return results

    def _mask(self, results: dict[str, Any], stored_hw: tuple[int, int]) -> np.ndarray:
        path = results.get('lane_mask_path')
        if path:
            return read_lane_mask(path, stored_hw, len(results['lane_exist']))
        return draw_lane_mask(results['lanes'], results['lane_slots'], stored_hw, self.lane_width_px)


@TRANSFORMS.register_module()
class CropResizeLaneImage(BaseTransform):
    """Cuts rows off the top of `img` and `lane_mask` and resizes the rest to the size that the network takes.

    Images are interpolated linearly, masks take the nearest pixel. Updates `img_from_stored` and `img_hw`.

    Args:
        crop_top_px: rows to cut off, in pixels of the image before: 240 of 590 in CULane's released models, whose
            lanes lie below.
        input_hw: height and width of the network's input.

    Raises:
        InputError: nothing is left of an image.
    """

    def __init__(self, crop_top_px: int, input_hw: tuple[int, int]) -> None:
        self.crop_top_px = crop_top_px
        self.input_hw = tuple(input_hw)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cuts and resizes."""
        height, width = results['img'].shape[:2]
        if not 0 <= self.crop_top_px < height:
            raise InputError(
                f'{results["img_paths"][0]} has {height} rows, but crop_top_px is {self.crop_top_px}: set it to fewer '
                'rows, or to 0 for whole images'
            )
        size = self.input_hw[::-1]
        results['img'] = cv2.resize(results['img'][self.crop_top_px :], size, interpolation=cv2.INTER_LINEAR)
        if 'lane_mask' in results:
            mask = results['lane_mask'][self.crop_top_px :]
            results['lane_mask'] = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
        scale_x, scale_y = size[0] / width, size[1] / (height - self.crop_top_px)
        move_image(results, np.array([[scale_x, 0, 0], [0, scale_y, -scale_y * self.crop_top_px], [0, 0, 1]]))
        return results
