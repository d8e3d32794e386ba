"""The steering angle from one image: the student of FM-Net alone, in the built-in world, small."""

from mmengine.config import read_base

crop_top_px, input_hw = 176, [64, 256]
max_epochs, val_interval = 12, 12
base_channels = 16

with read_base():
    from .fm_net_steering_r18_208x576_20e_culane_sim import *
