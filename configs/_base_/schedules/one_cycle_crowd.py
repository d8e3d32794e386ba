"""The one cycle of detectors of people: 40 epochs, peak 0.001, batches of 16, gradients clipped at 35. Our choice."""

from mmengine.config import read_base

lr, max_epochs, val_interval = 0.0001, 40, 5

with read_base():
    from .one_cycle import *

optim_wrapper.clip_grad.max_norm = 35
auto_scale_lr.base_batch_size = 16
