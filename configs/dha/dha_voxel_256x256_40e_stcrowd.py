"""DHA-R on STCrowd with voxels of 0.12 x 0.16 x 0.2 m; all parts on."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.stcrowd import *
    from .._base_.models.dha_voxel import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle_crowd import *

# The head leaves unknown velocities out of its loss.
del train_dataloader.dataset.pipeline['velocities']
