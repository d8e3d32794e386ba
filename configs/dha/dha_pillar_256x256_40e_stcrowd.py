"""DHA-R on STCrowd: heatmaps of 128, 64 and 32 cells a side, joined by density. Row (j) of the grid: all parts on."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.stcrowd import *
    from .._base_.models.dha_pillar import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle_crowd import *

# The head leaves unknown velocities out of its loss.
del train_dataloader.dataset.pipeline['velocities']
