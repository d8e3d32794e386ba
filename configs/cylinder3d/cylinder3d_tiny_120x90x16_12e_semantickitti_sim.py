"""A small Cylinder3D for the built-in world in SemanticKITTI's format, on a CPU: 120 x 90 x 16 cells, width 8.

How to make the data: `_base_/datasets/semantickitti_sim.py`.
"""

from mmengine.config import read_base

grid_shape = [120, 90, 16]
width, compressed_channels = 8, 16
point_hidden, point_channels = [32, 64], 64
lr, max_epochs = 0.003, 12
val_interval = max_epochs

with read_base():
    from .._base_.datasets.semantickitti_sim import *
    from .._base_.models.cylinder3d import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
