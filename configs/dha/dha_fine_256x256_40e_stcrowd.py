"""DHA-R on STCrowd with heatmaps of 256, 128, 64 and 32 cells a side: one more level, of whole pillars."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.stcrowd import *
    from .._base_.models.dha_fine import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle_crowd import *

# The head leaves unknown velocities out of its loss.
del train_dataloader.dataset.pipeline['velocities']
