"""CenterPoint for people on STCrowd: voxels of 0.12 x 0.16 x 0.2 m, a heatmap of 128 x 128 cells."""

from mmengine.config import read_base

map_stride = 2

with read_base():
    from .._base_.datasets.stcrowd import *
    from .._base_.models.center_point_voxel_crowd import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle_crowd import *

# The head leaves unknown velocities out of its loss.
del train_dataloader.dataset.pipeline['velocities']
