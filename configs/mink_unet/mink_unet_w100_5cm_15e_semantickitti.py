"""MinkUNet18 on SemanticKITTI with the schedule of SPVNAS: 21.7 M; SPVNAS reports 61.1 mIoU (val)."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.semantickitti_limited import *
    from .._base_.models.mink_unet import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_cosine import *

train_dataloader.batch_size = 2
