"""Student of the transformer pair: one encoder layer instead of two, images of 64 x 224."""

from mmengine.config import read_base

image_hw = (64, 224)
max_epochs = 4

with read_base():
    from .bev_former_tiny_96x352_8e_sim import *

model.encoder.num_layers = 1
