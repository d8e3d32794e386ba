"""A small RangePointNet for the built-in world in SemanticKITTI's format, on a CPU: 64 x 512 pixels, three stages.

How to make the data: `_base_/datasets/semantickitti_sim.py`.
"""

from mmengine.config import read_base

image_shape = [64, 512]
point_channels, stem_channels, fused_channels = 32, 16, 48
widths = [32, 64, 128]
lr, max_epochs = 0.003, 12
val_interval = max_epochs

with read_base():
    from .._base_.datasets.semantickitti_sim import *
    from .._base_.models.range_point import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
