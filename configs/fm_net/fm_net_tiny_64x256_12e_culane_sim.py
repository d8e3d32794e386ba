"""FM-Net: the steering angle with features that mimic those of two frozen networks, in the built-in world, small.

Give their weights with `--cfg-options model.teacher.segmentation.checkpoint=... model.teacher.depth.checkpoint=...`.
The plain config `fm_net_steering_tiny_64x256_12e_culane_sim.py` tests what the student has learned.
"""

from mmengine.config import read_base

crop_top_px, input_hw = 176, [64, 256]
max_epochs, val_interval = 12, 12
base_channels = 16
teacher_channels, neck_channels = 32, 32

with read_base():
    from .fm_net_r18_208x576_20e_culane_sim import *
