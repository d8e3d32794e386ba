"""SECOND on KITTI, three classes, as mmdet3d trains it: 8 x 6 samples, 80 epochs."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.kitti_lidar import *
    from .._base_.models.second_secfpn import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle import *

point_cloud_range = [0, -40, -3, 70.4, 40, 1]
train_steps, test_steps = train_dataloader.dataset.dataset.pipeline, val_dataloader.dataset.pipeline
train_steps[3].db_sampler.update(
    sample_groups=dict(Car=12, Pedestrian=6, Cyclist=6), min_points=dict(Car=5, Pedestrian=10, Cyclist=10)
)
train_steps[7].point_cloud_range = point_cloud_range
train_steps[8].point_cloud_range = point_cloud_range
test_steps[2].point_cloud_range = point_cloud_range
tta_pipeline[2].transforms[2] = [test_steps[2]]
test_dataloader = val_dataloader
del train_steps, test_steps
