"""A small RangePointNet made to overfit one real scan: a check of the whole path, with a class for every point."""

from mmengine.config import read_base

image_shape = [64, 1024]
point_channels, stem_channels, fused_channels = 32, 16, 48
widths = [32, 64, 128]
num_iters = 300

with read_base():
    from .._base_.models.range_point import *
    from .._base_.runtime import *
    from .._base_.schedules.overfit_sample import *

default_hooks.logger.interval = 10
