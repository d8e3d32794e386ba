"""How much of the built-in world is written in this format, and at which size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KittiProfile:
    """Sizes and amounts of a data set of single frames; images always have KITTI's 1242 x 375 pixels.

    `oversampling` x `oversampling` rays a pixel; `columns` per revolution of the LiDAR; `images`: the cameras whose
    images are written; scenes and val_scenes: how many frames to make, each in a scene of its own; shadow_m: size of a
    shadow-map cell. `tiny` has half the columns of the real LiDAR; `lidar` is `tiny` with more frames, for experiments.
    """

    name: str
    oversampling: int
    columns: int
    images: tuple[str, ...]
    scenes: int
    val_scenes: int
    shadow_m: float


PROFILES = {
    'tiny': KittiProfile('tiny', 1, 1000, ('image_2',), 120, 60, 0.2),
    'lidar': KittiProfile('lidar', 1, 1000, ('image_2',), 600, 300, 0.2),
    'default': KittiProfile('default', 2, 2083, ('image_2', 'image_3'), 80, 40, 0.12),
}
