"""SCNN on BDD100K: lanes as one class of pixels, without existence.

Batches and rate are those of its training on CULane.
"""

from mmengine.config import read_base

class_names, exist = ['lane'], False
input_hw = [360, 640]
mean, std = [91.75, 93.15, 93.38], [65.61, 67.91, 70.28]
lr, batch_size = 0.01, 12

with read_base():
    from .._base_.datasets.bdd100k_lane import *
    from .._base_.models.scnn import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_poly import *
