"""A small RangePointNet for the built-in world in SemanticKITTI's format, on a CPU: 64 x 512 pixels, three stages.

How to make the data: `_base_/datasets/semantickitti_sim.py`.
"""

from mmengine.config import read_base

image_shape = [64, 512]
point_channels, stem_channels, fused_channels = 32, 16, 48
widths = [32, 64, 128]
lr, max_epochs = 0.003, 12
# 1 / (share of the points + 0.001), as RangeNet++ has them: with equal weights rare classes are hardly learned.
class_weights = [
    8.1, 416.7, 285.7, 59.2, 36.4, 188.7, 238.1, 263.2, 2.6, 18.3, 8.9, 74.6, 7.1, 33.4, 27.0, 185.2, 20.3, 126.6, 416.7
]  # fmt: skip
val_interval = max_epochs

with read_base():
    from .._base_.datasets.semantickitti_sim import *
    from .._base_.models.range_point import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
