"""ERFNet on CULane in whole images of 800 x 288, in the recipe of pytorch-auto-drive."""

from mmengine.config import read_base

scale_x, scale_y, rotate_deg = [1, 1], [1, 1], 3.0
batch_size = 20
lr = 0.2
input_hw = [288, 800]

with read_base():
    from .._base_.datasets.culane_full import *
    from .._base_.models.erfnet import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_poly import *
