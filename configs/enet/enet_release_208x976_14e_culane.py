"""ENet as the authors' release trains it: Nesterov, rate 0.01, about 100,000 iterations of 12, rows from 240 down.

The warm-up of 200 iterations is not in the release, which begins with an ENet that was trained before.
"""

from mmengine.config import read_base

mean, std = [91.75, 93.15, 93.38], [65.61, 67.91, 70.28]
lr, max_epochs, val_interval, batch_size, nesterov = 0.01, 14, 7, 12, True

with read_base():
    from .._base_.datasets.culane import *
    from .._base_.models.enet import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_poly import *
