"""A small SPVCNN for the built-in world in SemanticKITTI's format: the tiny MinkUNet18 with its branch of points."""

from mmengine.config import read_base

data_root = 'data/semantickitti_sim'
voxel_size_m, channel_ratio = 0.2, 0.25
lr, max_epochs = 0.003, 12
val_interval = max_epochs

with read_base():
    from .._base_.datasets.semantickitti import *
    from .._base_.models.spvcnn import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *

train_dataloader.update(batch_size=2, num_workers=1)
val_dataloader.update(num_workers=1)
test_dataloader = val_dataloader
