"""A small CenterPoint for people of the built-in world, on a CPU. Row (b) of DHA's grid."""

from mmengine.config import read_base

pillar_channels = 32
block_channels, block_layers = [32, 64, 128], [1, 2, 2]
neck_channels, head_channels = 32, 32
map_stride = 2
max_epochs = 10
val_interval = max_epochs

with read_base():
    from .._base_.datasets.stcrowd_sim import *
    from .._base_.models.center_point_pillar_crowd import *
    from .._base_.runtime import *
    from .._base_.schedules.averaged import *
    from .._base_.schedules.one_cycle_crowd import *

# The head leaves unknown velocities out of its loss.
del train_dataloader.dataset.pipeline['velocities']
