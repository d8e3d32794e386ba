"""PointPillars with a feature pyramid on nuScenes, as mmdet3d trains it: 8 x 4 samples, 24 epochs."""

from mmengine.config import read_base
from mmengine.optim import LinearLR, MultiStepLR

with read_base():
    from .._base_.datasets.nuscenes_lidar import *
    from .._base_.models.point_pillars_fpn import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle import *

point_cloud_range = [-50, -50, -5, 50, 50, 3]
# Every keyframe once an epoch; of a point x, y, z and its age.
train_dataloader.dataset = train_dataloader.dataset.dataset
train_steps, test_steps = train_dataloader.dataset.pipeline, val_dataloader.dataset.pipeline
for steps in (train_steps, test_steps):
    steps[1].update(sweeps_num=10, use_dim=[0, 1, 2, 4], pad_empty_sweeps=False, remove_close=False)
train_steps[5].point_cloud_range = point_cloud_range
train_steps[6].point_cloud_range = point_cloud_range
test_steps[2].point_cloud_range = point_cloud_range
test_dataloader = val_dataloader
tta_pipeline[1] = test_steps[1]
tta_pipeline[2].transforms[1] = [test_steps[2]]
del steps, train_steps, test_steps

max_epochs = 24
optim_wrapper.optimizer.update(lr=0.001, betas=(0.9, 0.999))
optim_wrapper.clip_grad.max_norm = 35
train_cfg.update(max_epochs=max_epochs, val_interval=max_epochs)
# The rate falls to a tenth after epochs 20 and 23 of 24.
milestones = [max_epochs * 5 // 6, max_epochs * 23 // 24]
param_scheduler = [
    dict(type=LinearLR, start_factor=1.0 / 1000, by_epoch=False, begin=0, end=1000),
    dict(type=MultiStepLR, by_epoch=True, milestones=milestones, gamma=0.1, begin=0, end=max_epochs),
]
auto_scale_lr.base_batch_size = 32
