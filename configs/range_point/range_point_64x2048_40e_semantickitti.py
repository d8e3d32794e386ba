"""RangePointNet on SemanticKITTI, 40 epochs, with averaged weights: 3.6 M, the student that is fast on a CPU."""

from mmengine.config import read_base

averaging_momentum = 0.0002
# 1 / (share of the points + 0.001), as lidar-bonnetal (RangeNet++) weighs the classes of this data set.
class_weights = [
    22.9, 854.7, 714.3, 316.5, 355.9, 746.3, 885.0, 961.5, 5.0, 63.7, 6.9, 204.1, 7.5, 13.6, 3.7, 142.0, 12.6, 259.1,
    617.3,
]  # fmt: skip

with read_base():
    from .._base_.datasets.semantickitti import *
    from .._base_.models.range_point import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
