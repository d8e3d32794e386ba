"""SCNN as released: whole images of 800 x 288, batches of 12, rate 0.01, about 60,000 iterations, no IoU loss.

The warm-up of 200 iterations is not in the release. Give `pretrained` the weights of `vgg16_bn`, as it had.
"""

from mmengine.config import read_base

mean, std = [91.75, 93.15, 93.38], [65.61, 67.91, 70.28]
lr, max_epochs, batch_size = 0.01, 8, 12
input_hw = [288, 800]

with read_base():
    from .._base_.datasets.culane_full import *
    from .._base_.models.scnn import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_poly import *
