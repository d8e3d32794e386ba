"""A ResNet-101 of a quarter of the width, on small images of the built-in world: rows from 240 down at 256 x 56."""

from mmengine.config import read_base

depth, base_channels = 101, 16
crop_top_px, input_hw = 240, [56, 256]
lr, max_epochs, val_interval = 3e-3, 10, 10
# Lanes of 16 pixels are 2.5 pixels wide here.
output_stride, decoder_kernel = 4, 3

with read_base():
    from .._base_.datasets.culane_sim import *
    from .._base_.models.lane_resnet import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
