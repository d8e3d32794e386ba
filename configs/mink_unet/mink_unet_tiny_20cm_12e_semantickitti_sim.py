"""A small MinkUNet18 for the built-in world in SemanticKITTI's format: 20 cm, a quarter of the channels, on a CPU.

How to make the data: `_base_/datasets/semantickitti_sim.py`.
"""

from mmengine.config import read_base

voxel_size_m, channel_ratio = 0.2, 0.25
lr, max_epochs = 0.003, 12
val_interval = max_epochs

with read_base():
    from .._base_.datasets.semantickitti_sim import *
    from .._base_.models.mink_unet import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
