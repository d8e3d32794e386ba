"""The projections of one real six-camera rig, as facts for tests."""

from __future__ import annotations

import numpy as np

# Lidar frame to 16 x 44 feature maps: the frame that the authors of Fast-BEV benchmark their view transformation on.
# Cameras: back right, front left, front right, back, front, back left. Twice the first two rows gives 32 x 88.
REAL_RIG_16X44 = np.array(
    [
        [
            [8.373362, -40.244984, -1.6552382, -6.9103355],
            [7.2320957, -2.0137317, -19.894552, -9.125608],
            [0.9341086, -0.35645434, -0.019529385, -0.47654495],
        ],
        [
            [1.4240997, 41.695152, 0.9889719, -12.000825],
            [-6.122236, 4.7832365, -19.868732, -11.033465],
            [-0.8195366, 0.5729076, 0.011688368, -0.57950824],
        ],
        [
            [37.657562, -16.648924, -0.80574715, -11.741079],
            [6.267485, 4.7618937, -19.737892, -11.726799],
            [0.8340347, 0.55169547, 0.0042792447, -0.6498283],
        ],
        [
            [-22.358109, -22.697823, -0.38333663, -22.618889],
            [0.0879097, -7.463794, -12.7485695, -11.010799],
            [-0.004640264, -0.9999619, -0.0073895603, -0.9895409],
        ],
        [
            [34.746105, 22.562597, 0.6355812, -11.367903],
            [0.09931668, 8.073099, -19.720314, -10.587554],
            [-0.0035391385, 0.9998258, 0.018327648, -0.52849907],
        ],
        [
            [-31.61227, 25.875452, 0.22183996, -17.312048],
            [-6.9378633, -1.7979249, -19.925093, -8.195086],
            [-0.948199, -0.31632847, -0.029239811, -0.43990412],
        ],
    ],
    np.float32,
)


def rig_for_images(image_hw: tuple[int, int], frames: int = 1) -> np.ndarray:
    """Projections (frames * 6, 4, 4) to the pixels of images that Fast-BEV's test crop makes of 1600 x 900."""
    ratio = image_hw[1] / 1600
    pixels = np.tile(np.eye(4), (6, 1, 1))
    pixels[:, :3] = REAL_RIG_16X44
    # Back to the full picture: the authors' files scale rows by 16/255, where 16/225 was meant.
    pixels[:, 0] *= 1600 / 44 * ratio
    pixels[:, 1] *= 4 * 255 / 16 * ratio
    crop_top = int((900 * ratio - image_hw[0]) / 2)
    pixels[:, 1] -= crop_top * pixels[:, 2]
    return np.tile(pixels, (frames, 1, 1))
