"""ERFNet on BDD100K: lanes as one class of pixels, without existence.

The recipe is that of pytorch-auto-drive for CULane.
"""

from mmengine.config import read_base

class_names, exist = ['lane'], False
input_hw = [360, 640]
scale_x, scale_y, rotate_deg = [1, 1], [1, 1], 3.0
lr, batch_size = 0.2, 20

with read_base():
    from .._base_.datasets.bdd100k_lane import *
    from .._base_.models.erfnet import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_poly import *
