"""Cylinder3D 1.0x on SemanticKITTI, 40 epochs, with averaged weights: the teacher of PVD."""

from mmengine.config import read_base

averaging_momentum = 0.0002

with read_base():
    from .._base_.datasets.semantickitti import *
    from .._base_.models.cylinder3d import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *
