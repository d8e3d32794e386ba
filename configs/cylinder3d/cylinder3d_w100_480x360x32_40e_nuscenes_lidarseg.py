"""Cylinder3D 1.0x on nuScenes-lidarseg, 40 epochs: points from 5 m below to 3 m above the LiDAR."""

from mmengine.config import read_base

class_names = [
    'barrier', 'bicycle', 'bus', 'car', 'construction_vehicle', 'motorcycle', 'pedestrian', 'traffic_cone',
    'trailer', 'truck', 'driveable_surface', 'other_flat', 'sidewalk', 'terrain', 'manmade', 'vegetation',
]  # fmt: skip
height_range_m = [-5, 3]
averaging_momentum = 0.0002

with read_base():
    from .._base_.datasets.nuscenes_lidarseg import *
    from .._base_.models.cylinder3d import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
