"""nuScenes' pedestrians alone: ten sweeps, 20 epochs. The leaf sets range and pillars."""

from mmengine.config import read_base

class_names = ['pedestrian']
lr, max_epochs = 1e-4, 20
val_interval = max_epochs

with read_base():
    from .datasets.nuscenes_lidar import *
    from .runtime import *
    from .schedules.one_cycle import *

# The head leaves unknown velocities out of its loss.
del train_dataloader.dataset.dataset.pipeline['velocities']

metainfo = dict(classes=class_names)
train_dataloader.dataset.dataset.metainfo = metainfo
val_dataloader.dataset.metainfo = metainfo
test_dataloader = val_dataloader
optim_wrapper.optimizer.betas = (0.95, 0.999)
optim_wrapper.clip_grad.max_norm = 35
auto_scale_lr.base_batch_size = 32
