"""RangePointNet on SemanticKITTI, 40 epochs, with averaged weights: 3.6 M, the student that is fast on a CPU."""

from mmengine.config import read_base

averaging_momentum = 0.0002

with read_base():
    from .._base_.datasets.semantickitti import *
    from .._base_.models.range_point import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
