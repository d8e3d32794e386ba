"""DHA-R (our formulation, see `models.crowd.head`) for JRDB, on pillars of 0.16 m all around the robot."""

from mmengine.config import read_base

# The benchmark scores people up to 25 m. PiFeNet and others have pillars of this size on JRDB.
point_cloud_range = [-25.6, -25.6, -2.0, 25.6, 25.6, 2.0]
voxel_size = [0.16, 0.16, 4]

with read_base():
    from .._base_.datasets.jrdb import *
    from .._base_.models.dha_pillar import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle_crowd import *

# The head leaves unknown velocities out of its loss.
del train_dataloader.dataset.pipeline['velocities']
