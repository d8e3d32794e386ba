"""PointPillars with a feature pyramid on nuScenes, as mmdet3d trains it: 8 x 4 samples, 24 epochs."""

from mmengine.config import read_base
from mmengine.optim import LinearLR, MultiStepLR

point_cloud_range = [-50, -50, -5, 50, 50, 3]
# Of a point x, y, z and its age.
sweeps_num, use_dim, fill_sweeps = 10, [0, 1, 2, 4], False
max_epochs = 24
val_interval = max_epochs

with read_base():
    from .._base_.datasets.nuscenes_lidar import *
    from .._base_.models.point_pillars_fpn import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle import *

# Every keyframe once an epoch.
train_dataloader.dataset = train_dataloader.dataset.dataset

optim_wrapper.optimizer.update(lr=0.001, betas=(0.9, 0.999))
optim_wrapper.clip_grad.max_norm = 35
# The rate falls to a tenth after epochs 20 and 23 of 24.
milestones = [max_epochs * 5 // 6, max_epochs * 23 // 24]
param_scheduler = [
    dict(type=LinearLR, start_factor=1.0 / 1000, by_epoch=False, begin=0, end=1000),
    dict(type=MultiStepLR, by_epoch=True, milestones=milestones, gamma=0.1, begin=0, end=max_epochs),
]
auto_scale_lr.base_batch_size = 32
