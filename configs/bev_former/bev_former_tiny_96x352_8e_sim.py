"""Teacher of the transformer pair: the tiny BEVFormer on images of 96 x 352, on the `distill` world."""

from mmengine.config import read_base

data_root = 'data/sim_distill'
max_epochs, val_interval = 8, 1000
warmup_epochs = max_epochs // 4 or max_epochs / 4

with read_base():
    # Averaged weights differ less from seed to seed.
    from .._base_.schedules.averaged import *
    from .bev_former_tiny_96x352_9e_sim import *

# Two levels instead of three cost two thirds of a step.
model.backbone.out_indices = (1, 2)
model.neck.update(in_channels=[32, 64], num_outs=2)
model.encoder.num_levels = 2

default_hooks.checkpoint.update(max_keep_ckpts=1)
