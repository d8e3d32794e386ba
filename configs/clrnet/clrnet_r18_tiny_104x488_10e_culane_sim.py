"""CLRNet with a ResNet-18 of half the width and a third of the priors, on small images of the built-in world."""

from mmengine.config import read_base

input_hw = [104, 488]
base_channels, num_priors = 32, 64
lr, max_epochs, val_interval = 1e-3, 10, 10

with read_base():
    from .._base_.datasets.culane_sim import *
    from .._base_.models.clrnet import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
