"""SECOND on KITTI, three classes, as mmdet3d trains it: 8 x 6 samples, 80 epochs."""

from mmengine.config import read_base

point_cloud_range = [0, -40, -3, 70.4, 40, 1]
sample_groups = dict(Car=12, Pedestrian=6, Cyclist=6)
min_points = dict(Car=5, Pedestrian=10, Cyclist=10)

with read_base():
    from .._base_.datasets.kitti_lidar import *
    from .._base_.models.second_secfpn import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle import *
