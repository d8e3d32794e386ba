"""Augmentation of multi-view images and of the BEV plane, with every matrix kept true.

Parameters and their order are those of Fast-BEV's released configs: each image of each frame draws its own
resize, crop, flip and rotation; each sample draws one flip, rotation, scale and shift of the LiDAR frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from perception3d.datasets.transforms.camera_loading import update_matrices
from perception3d.registry import TRANSFORMS


@dataclass(frozen=True)
class ImagePlan:
    """What happens to one image: resize to `resized_wh`, cut `final_wh` at `crop_xy` out of it, flip, rotate.

    crop_xy may lie partly outside; what is outside is black. rotate_rad is about the centre of the cut.
    """

    resized_wh: tuple[int, int]
    crop_xy: tuple[int, int]
    final_wh: tuple[int, int]
    flip: bool = False
    rotate_rad: float = 0.0

    def matrix(self, raw_wh: tuple[int, int]) -> np.ndarray:
        """Returns the affine map (3, 3) from pixels of an image of `raw_wh` to final pixels, corner-origin coordinates.

        The scales are those of the whole-pixel size that the image really gets, not the ratio that was drawn.
        """
        width, height = self.final_wh
        affine = np.diag([self.resized_wh[0] / raw_wh[0], self.resized_wh[1] / raw_wh[1], 1.0])
        affine[:2, 2] = [-self.crop_xy[0], -self.crop_xy[1]]
        return (
            self.rotation() @ np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1.0]]) @ affine
            if self.flip
            else self.rotation() @ affine
        )

    def rotation(self) -> np.ndarray:
        """Returns the rotation (3, 3) about the centre of the final image."""
        cos, sin = math.cos(self.rotate_rad), math.sin(self.rotate_rad)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]])
        centre = np.array(self.final_wh) / 2
        turn[:2, 2] = centre - turn[:2, :2] @ centre
        return turn

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Returns the final image (h, w, 3) uint8.

        An image that shrinks to half or less is halved by averaging first, against aliasing; then pixels are
        interpolated linearly, once. Without a rotation the crop copies pixels of the resized image.
        """
        image = self._halve(image)
        width, height = image.shape[1::-1]
        if not self.rotate_rad:
            if (width, height) != self.resized_wh:
                image = cv2.resize(image, self.resized_wh, interpolation=cv2.INTER_LINEAR)
            cut = self._cut(image)
            return np.ascontiguousarray(cut[:, ::-1]) if self.flip else cut
        # cv2 puts whole numbers at pixel centres, the matrices at corners: half a pixel before and after.
        to_corner = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
        affine = np.linalg.inv(to_corner) @ self.matrix((width, height)) @ to_corner
        return cv2.warpAffine(image, affine[:2], self.final_wh, flags=cv2.INTER_LINEAR)

    def _halve(self, image: np.ndarray) -> np.ndarray:
        """Averages 2x2 pixels as often as the resized image stays no larger and the size is even."""
        height, width = image.shape[:2]
        while width >= 2 * self.resized_wh[0] and height >= 2 * self.resized_wh[1] and not (width % 2 or height % 2):
            height, width = height // 2, width // 2
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return image

    def _cut(self, image: np.ndarray) -> np.ndarray:
        """Copies the crop out of the resized image; what lies outside stays black."""
        (width, height), (x, y) = self.final_wh, self.crop_xy
        x0, y0 = max(x, 0), max(y, 0)
        inside = image[y0 : max(y0, y + height), x0 : max(x0, x + width)]
        if inside.shape[:2] == (height, width):
            return np.ascontiguousarray(inside)
        final = np.zeros((height, width, image.shape[2]), image.dtype)
        final[y0 - y : y0 - y + inside.shape[0], x0 - x : x0 - x + inside.shape[1]] = inside
        return final


@TRANSFORMS.register_module()
class ImageAugment(BaseTransform):
    """Resizes and cuts every image to `final_hw`; in training with random resize, crop, flip and rotation per image.

    The resize is final width / raw width plus a draw from `resize`; the cut is centred, shifted by a draw from `crop`
    times the final size. Every image of every frame draws for itself. Updates `img`, `img_from_stored`,
    `img_from_lidar` and `img_hw`. Raw sizes are those in `stored_hw`, whatever the size that images were decoded at.

    Args:
        final_hw: Height and width of the network's input.
        resize, crop: Ranges of uniform draws, as fractions.
        rotate_deg: Range of the rotation in degrees.
        flip_prob: Probability of a horizontal flip.
        test_mode: No draws: plain resize and centred cut.
        flip: In test mode, flip all images, for test-time augmentation.
    """

    def __init__(
        self,
        final_hw: tuple[int, int],
        resize: tuple[float, float] = (-0.06, 0.11),
        crop: tuple[float, float] = (-0.05, 0.05),
        rotate_deg: tuple[float, float] = (-5.4, 5.4),
        flip_prob: float = 0.5,
        test_mode: bool = False,
        flip: bool = False,
    ) -> None:
        self.final_hw = tuple(final_hw)
        self.resize = tuple(resize)
        self.crop = tuple(crop)
        self.rotate_deg = tuple(rotate_deg)
        self.flip_prob = flip_prob
        self.test_mode = test_mode
        self.flip = flip

    def plan(self, raw_wh: tuple[int, int]) -> ImagePlan:
        """Returns what to do with an image of `raw_wh` pixels; random unless in test mode."""
        height, width = self.final_hw
        ratio = width / raw_wh[0]
        shift_x = shift_y = 0
        rotate_rad, flip = 0.0, self.flip
        if not self.test_mode:
            ratio += _uniform(self.resize)
            shift_x = int(_uniform(self.crop) * width)
            shift_y = int(_uniform(self.crop) * height)
            flip = bool(np.random.uniform() < self.flip_prob)
            rotate_rad = math.radians(_uniform(self.rotate_deg))
        # A hair is added so that 1600 * 0.44, which is 703.99.. in floating point, is 704 pixels.
        resized = max(1, int(raw_wh[0] * ratio + 1e-6)), max(1, int(raw_wh[1] * ratio + 1e-6))
        crop = (resized[0] - width) // 2 + shift_x, (resized[1] - height) // 2 + shift_y
        return ImagePlan(resized, crop, (width, height), flip, rotate_rad)

    def transform(self, results: dict) -> dict:
        """Transforms every image of `img`; all have `final_hw` afterwards."""
        images = []
        for index, image in enumerate(results['img']):
            plan = self.plan(results['stored_hw'][index][::-1])
            images.append(plan.apply(image))
            # Homogeneous image points are (u*d, v*d, d, 1), so the shift belongs to the third column.
            post = np.eye(4)
            post[:3, :3] = plan.matrix(image.shape[1::-1])
            results['img_from_stored'][index] = post @ results['img_from_stored'][index]
        results['img'] = images
        results['img_hw'] = self.final_hw
        update_matrices(results)
        return results


@TRANSFORMS.register_module()
class BEVAugment(BaseTransform):
    """Flips, rotates, scales and shifts the LiDAR frame of a sample: boxes, velocities, points and cameras together.

    With aug_from_lidar = A, boxes and points become A·x, velocities rotate, mirror and scale with it, and
    cam_from_lidar becomes cam_from_lidar · A^-1, so that pixels stay where they are and depth stays metric. Unknown
    (NaN) velocities stay NaN. Sets `aug_from_lidar` (4, 4).

    Args:
        flip_x_prob, flip_y_prob: Probabilities of x -> -x and of y -> -y.
        rotate_rad: Range of the rotation about z.
        scale: Range of the scale.
        translate_std_m: Standard deviation of the shift along each axis.
    """

    def __init__(
        self,
        flip_x_prob: float = 0.5,
        flip_y_prob: float = 0.5,
        rotate_rad: tuple[float, float] = (-0.3925, 0.3925),
        scale: tuple[float, float] = (0.95, 1.05),
        translate_std_m: float = 0.05,
    ) -> None:
        self.flip_x_prob = flip_x_prob
        self.flip_y_prob = flip_y_prob
        self.rotate_rad = tuple(rotate_rad)
        self.scale = tuple(scale)
        self.translate_std_m = translate_std_m

    def transform(self, results: dict) -> dict:
        """Draws one augmentation and applies it to whatever of boxes, points and cameras is there."""
        flip_x = np.random.uniform() < self.flip_x_prob
        flip_y = np.random.uniform() < self.flip_y_prob
        angle, scale = _uniform(self.rotate_rad), _uniform(self.scale)
        shift_m = np.random.normal(0, self.translate_std_m, 3)

        cos, sin = math.cos(angle), math.sin(angle)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
        matrix = np.eye(4)
        matrix[:3, :3] = scale * turn @ np.diag([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0, 1.0])
        matrix[:3, 3] = shift_m

        for key in ('gt_bboxes_3d', 'points'):
            if key in results:
                _move(results[key], flip_x, flip_y, angle, scale, shift_m)
        results['aug_from_lidar'] = matrix @ results.get('aug_from_lidar', np.eye(4))
        if 'cam_from_lidar' in results:
            results['cam_from_lidar'] = results['cam_from_lidar'] @ np.linalg.inv(matrix)
            update_matrices(results)
        return results


def _uniform(bounds: tuple[float, ...]) -> float:
    low, high = bounds
    return float(np.random.uniform(low, high))


def _move(things: Any, flip_x: bool, flip_y: bool, angle: float, scale: float, shift_m: np.ndarray) -> None:
    """Moves mmdet3d boxes or points in place; both know these verbs ('horizontal' mirrors y, 'vertical' mirrors x)."""
    if flip_y:
        things.flip('horizontal')
    if flip_x:
        things.flip('vertical')
    things.rotate(angle)
    things.scale(scale)
    things.translate(shift_m)
