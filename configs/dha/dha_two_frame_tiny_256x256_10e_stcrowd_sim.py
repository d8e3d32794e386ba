"""A small DHA-R of two frames for the built-in world, on a CPU, as `dha_tiny`."""

from mmengine.config import read_base

data_root = 'data/stcrowd_sim'
pillar_channels = 32
block_channels, block_layers = [32, 64, 128], [1, 2, 2]
neck_channels, head_channels = 64, 32
max_epochs = 10
val_interval = max_epochs

with read_base():
    from .._base_.datasets.stcrowd_two_frame import *
    from .._base_.models.dha_two_frame import *
    from .._base_.runtime import *
    from .._base_.schedules.averaged import *
    from .._base_.schedules.one_cycle_crowd import *

train_dataloader.update(batch_size=2, num_workers=1)
val_dataloader.update(num_workers=1)
test_dataloader = val_dataloader
# The head leaves unknown velocities out of its loss.
del train_dataloader.dataset.pipeline['velocities']
