"""PointRCNN on KITTI, three classes, as mmdet3d trains it: 8 x 2 samples, 160 epochs, 16,384 points a frame."""

from mmdet3d.datasets.transforms import PointSample
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.kitti_lidar import *
    from .._base_.models.point_rcnn import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle import *

point_cloud_range = [0, -40, -3, 70.4, 40, 1]
model.data_preprocessor.point_cloud_range = point_cloud_range
train_steps, test_steps = train_dataloader.dataset.dataset.pipeline, val_dataloader.dataset.pipeline
train_steps[3].db_sampler.sample_groups = dict(Car=20, Pedestrian=15, Cyclist=15)
train_steps[7].point_cloud_range = point_cloud_range
train_steps[8].point_cloud_range = point_cloud_range
test_steps[2].point_cloud_range = point_cloud_range
# Far points are kept first: the other ones are drawn among those nearer than 40 m.
train_steps.insert(9, dict(type=PointSample, num_points=16384, sample_range=40.0))
test_steps.insert(3, dict(type=PointSample, num_points=16384, sample_range=40.0))
train_dataloader.batch_size = 2
tta_pipeline[2].transforms[2:] = [[step] for step in test_steps[2:]]
test_dataloader = val_dataloader
del train_steps, test_steps

lr, max_epochs = 0.001, 80
rise_epochs = max_epochs * 7 // 16 or 0.4375 * max_epochs
optim_wrapper.optimizer.update(lr=lr, betas=(0.95, 0.85))
train_cfg.update(max_epochs=max_epochs, val_interval=2)
param_scheduler[0].update(T_max=rise_epochs, end=rise_epochs, eta_min=lr * 10)
param_scheduler[1].update(T_max=max_epochs - rise_epochs, begin=rise_epochs, end=max_epochs, eta_min=lr * 1e-4)
param_scheduler[2].update(T_max=rise_epochs, end=rise_epochs)
param_scheduler[3].update(T_max=max_epochs - rise_epochs, begin=rise_epochs, end=max_epochs)
auto_scale_lr.base_batch_size = 16
