"""Student of the transformer pair: one encoder layer instead of two, images of 64 x 224."""

from mmengine.config import read_base

with read_base():
    from .bev_former_tiny_96x352_8e_sim import *

image_hw = (64, 224)
train_dataloader.dataset.pipeline[1].final_hw = image_hw
val_dataloader.dataset.pipeline[1].final_hw = image_hw
test_dataloader = val_dataloader

model.encoder.num_layers = 1

max_epochs = 4
train_cfg.max_epochs = max_epochs
warmup_epochs = max_epochs // 4 or max_epochs / 4
param_scheduler[0].end = warmup_epochs
param_scheduler[1].update(begin=warmup_epochs, end=max_epochs)
