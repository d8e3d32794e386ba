"""Teacher of the resolution pair: the tiny Fast-BEV on images of 96 x 352, trained longer on the `distill` world."""

from mmengine.config import read_base

with read_base():
    # Averaged weights differ less from seed to seed.
    from .._base_.schedules.averaged import *
    from ..fast_bev.fast_bev_tiny_96x352_9e_sim import *

data_root = 'data/sim_distill'
train_dataloader.dataset.data_root = data_root
val_dataloader.dataset.data_root = data_root
test_dataloader = val_dataloader
val_evaluator.data_root = data_root
test_evaluator.data_root = data_root

max_epochs = 8
train_cfg.update(max_epochs=max_epochs, val_interval=1000)
warmup_epochs = max_epochs // 4 or max_epochs / 4
param_scheduler[0].end = warmup_epochs
param_scheduler[1].update(begin=warmup_epochs, end=max_epochs)
default_hooks.checkpoint.update(max_keep_ckpts=1)
