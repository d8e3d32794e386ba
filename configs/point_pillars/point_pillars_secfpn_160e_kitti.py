"""PointPillars on KITTI, three classes, as mmdet3d trains it: 8 x 6 samples, 160 epochs."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.kitti_lidar import *
    from .._base_.models.point_pillars_secfpn import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle_pillars import *

# PointPillars of three classes does not move single objects.
del train_dataloader.dataset.dataset.pipeline['move']
