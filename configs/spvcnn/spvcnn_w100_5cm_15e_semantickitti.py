"""SPVCNN on SemanticKITTI with the schedule of SPVNAS: 21.8 M; SPVNAS reports 63.8 mIoU (val)."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.semantickitti_limited import *
    from .._base_.models.spvcnn import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_cosine import *

train_dataloader.batch_size = 2
