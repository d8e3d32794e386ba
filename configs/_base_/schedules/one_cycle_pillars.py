"""The one cycle of PointPillars: 80 epochs over data repeated twice, from 0.001, gradients clipped at 35."""

from mmengine.config import read_base

lr, max_epochs, val_interval = 0.001, 80, 2

with read_base():
    from .one_cycle import *

optim_wrapper.clip_grad.max_norm = 35
