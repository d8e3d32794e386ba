"""Student of the resolution pair: the same network on images of 64 x 224, two fifths of the pixels."""

from mmengine.config import read_base

image_hw = (64, 224)
max_epochs = 4

with read_base():
    from .fast_bev_tiny_96x352_8e_sim import *
