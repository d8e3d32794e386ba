"""SCNN with the input of the released ENet, rows from 240 down at 976 x 208; otherwise as `scnn_paper`."""

from mmengine.config import read_base

mean, std = [91.75, 93.15, 93.38], [65.61, 67.91, 70.28]
lr, max_epochs, batch_size = 0.01, 8, 12

with read_base():
    from .._base_.datasets.culane import *
    from .._base_.models.scnn import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_poly import *
