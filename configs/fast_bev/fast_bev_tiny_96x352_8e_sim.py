"""Teacher of the resolution pair: the tiny Fast-BEV on images of 96 x 352, trained longer on the `distill` world."""

from mmengine.config import read_base

data_root = 'data/sim_distill'
max_epochs, val_interval = 8, 1000
warmup_epochs = max_epochs // 4 or max_epochs / 4

with read_base():
    # Averaged weights differ less from seed to seed.
    from .._base_.schedules.averaged import *
    from .fast_bev_tiny_96x352_9e_sim import *

default_hooks.checkpoint.update(max_keep_ckpts=1)
