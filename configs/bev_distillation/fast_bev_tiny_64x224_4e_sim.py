"""Student of the resolution pair: the same network on images of 64 x 224, two fifths of the pixels."""

from mmengine.config import read_base

with read_base():
    from .fast_bev_tiny_96x352_8e_sim import *

image_hw = (64, 224)
train_dataloader.dataset.pipeline[1].final_hw = image_hw
val_dataloader.dataset.pipeline[1].final_hw = image_hw
test_dataloader = val_dataloader

max_epochs = 4
train_cfg.max_epochs = max_epochs
warmup_epochs = max_epochs // 4 or max_epochs / 4
param_scheduler[0].end = warmup_epochs
param_scheduler[1].update(begin=warmup_epochs, end=max_epochs)
