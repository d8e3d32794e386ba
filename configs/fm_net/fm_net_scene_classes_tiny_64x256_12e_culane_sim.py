"""The class of every pixel in the built-in world: a teacher of FM-Net, small."""

from mmengine.config import read_base

crop_top_px, input_hw = 176, [64, 256]
max_epochs, val_interval = 12, 12
teacher_channels, neck_channels = 32, 32

with read_base():
    from .fm_net_scene_classes_r18_208x576_20e_culane_sim import *
