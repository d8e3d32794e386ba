"""Augmentation of images with lanes: image, mask, slots, steering angle and matrix move together."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from perception3d.datasets.transforms.lane_loading import move_image
from perception3d.registry import TRANSFORMS
from perception3d.structures.lanes import IGNORED


@TRANSFORMS.register_module()
class AugmentLaneImage(BaseTransform):
    """Scales, cuts, rotates and mirrors `img` and `lane_mask`, and changes brightness, contrast and saturation.

    The scaled image is cut to its size before, at a random place; where it is smaller, it lies at the bottom, at a
    random place in x, as in the training of the released ENet (Codes-for-Lane-Detection). Pixels of no image are
    `pad_rgb`, and `pad_mask` in the mask. All of it is one interpolation. The defaults of scale and rotation are those
    of that training for 976 x 208 pixels; it does not mirror and does not change colours.

    A mirrored image has mirrored slots: the leftmost lane is the rightmost one, in `lane_mask`, `lane_slots` and
    `lane_exist`; `steering_rad` changes its sign. `lanes` stay in stored pixels: `img_from_stored` takes them along.

    Args:
        scale_x, scale_y: ranges of uniform draws, each for itself.
        rotate_deg: largest angle to either side, about the middle of the image.
        flip_prob: probability of mirroring.
        brightness: largest shift, in values of 0..255.
        contrast, saturation: largest change of the factor 1.
        pad_rgb: colour beyond the image, by default the mean that the networks subtract.
        pad_mask: value beyond the image, by default ignored; 0 for background.
    """

    def __init__(
        self,
        scale_x: tuple[float, float] = (0.96, 1.043),
        scale_y: tuple[float, float] = (0.933, 1.077),
        rotate_deg: float = 1.0,
        flip_prob: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        pad_rgb: tuple[int, int, int] = (92, 93, 93),
        pad_mask: int = IGNORED,
    ) -> None:
        self.scale_x = scale_x
        self.scale_y = scale_y
        self.rotate_deg = rotate_deg
        self.flip_prob = flip_prob
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.pad_rgb = tuple(pad_rgb)
        self.pad_mask = pad_mask

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Draws and applies one augmentation."""
        height, width = results['img'].shape[:2]
        move = self._scaled_and_cut(width, height)
        flip = np.random.uniform() < self.flip_prob
        if flip:
            move = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]]) @ move
        self._warp(results, _rotation(math.radians(_draw(self.rotate_deg)), width, height) @ move)
        if flip:
            _swap_slots(results)
        results['img'] = self._recolour(results['img'])
        return results

    def _scaled_and_cut(self, width: int, height: int) -> np.ndarray:
        """Draws the scale and the place of the cut; returns the map (3, 3) of pixels."""
        scales = np.random.uniform(*self.scale_x), np.random.uniform(*self.scale_y)
        room_x, room_y = width * (scales[0] - 1), height * (scales[1] - 1)
        # Smaller than the cut, the image lies at the bottom.
        y = np.random.uniform(0, room_y) if room_y > 0 else room_y
        return np.array([[scales[0], 0, -np.random.uniform() * room_x], [0, scales[1], -y], [0, 0, 1]])

    def _warp(self, results: dict[str, Any], move: np.ndarray) -> None:
        size = results['img'].shape[1::-1]
        # cv2 puts whole numbers at pixel centres, the matrices at corners: half a pixel before and after.
        to_corner = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
        affine = (np.linalg.inv(to_corner) @ move @ to_corner)[:2]
        results['img'] = cv2.warpAffine(
            results['img'], affine, size, flags=cv2.INTER_LINEAR, borderValue=tuple(map(float, self.pad_rgb))
        )
        if 'lane_mask' in results:
            results['lane_mask'] = cv2.warpAffine(
                results['lane_mask'], affine, size, flags=cv2.INTER_NEAREST, borderValue=[float(self.pad_mask)]
            )
        move_image(results, move)

    def _recolour(self, image: np.ndarray) -> np.ndarray:
        factor, shift = 1 + _draw(self.contrast), _draw(self.brightness)
        if factor != 1 or shift:
            # About the middle grey, so that contrast does not change the brightness.
            image = cv2.addWeighted(image, factor, image, 0.0, shift + 128 * (1 - factor))
        keep = 1 + _draw(self.saturation)
        if keep != 1:
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            image = cv2.addWeighted(image, keep, grey, 1 - keep, 0.0)
        return image


def _draw(largest: float) -> float:
    return float(np.random.uniform(-largest, largest)) if largest else 0.0


def _rotation(angle_rad: float, width: int, height: int) -> np.ndarray:
    """Returns the rotation (3, 3) about the middle of an image."""
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]])
    centre = np.array([width, height]) / 2
    turn[:2, 2] = centre - turn[:2, :2] @ centre
    return turn


def _swap_slots(results: dict[str, Any]) -> None:
    """Gives the lanes of a mirrored image the slots on the other side, and its steering angle the other sign."""
    if 'steering_rad' in results:
        results['steering_rad'] = -results['steering_rad']
    if 'lane_exist' not in results:
        return
    num_slots = len(results['lane_exist'])
    results['lane_exist'] = results['lane_exist'][::-1].copy()
    slots = results['lane_slots']
    results['lane_slots'] = np.where(slots < 0, slots, num_slots - 1 - slots)
    if 'lane_mask' in results:
        values = np.arange(256, dtype=np.uint8)
        values[1 : num_slots + 1] = np.arange(num_slots, 0, -1)
        results['lane_mask'] = values[results['lane_mask']]
