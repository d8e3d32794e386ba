"""DHA-R on STCrowd from the cloud and the left image, whose features are painted on the points."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.stcrowd_camera import *
    from .._base_.models.dha_camera import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle_crowd import *

# The head leaves unknown velocities out of its loss.
del train_dataloader.dataset.pipeline['velocities']
