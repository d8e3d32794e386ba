"""The steering angle from one image: the student of FM-Net alone, in the built-in world."""

from mmengine.config import read_base

crop_top_px, input_hw = 0, [208, 576]
batch_size, lr, max_epochs, val_interval = 8, 2e-3, 20, 20
base_channels = 64
# About the spread of the angles.
unit_rad = 0.01

with read_base():
    from .._base_.datasets.culane_sim_steering import *
    from .._base_.models.steering import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
