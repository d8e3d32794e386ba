"""PointRCNN on KITTI, three classes, as mmdet3d trains it: 8 x 2 samples, 160 epochs, 16,384 points a frame."""

from mmdet3d.datasets.transforms import PointSample
from mmengine.config import read_base

point_cloud_range = [0, -40, -3, 70.4, 40, 1]
sample_groups = dict(Car=20, Pedestrian=15, Cyclist=15)
lr, max_epochs, val_interval = 0.001, 80, 2
rise_epochs = max_epochs * 7 // 16 or 0.4375 * max_epochs

with read_base():
    from .._base_.datasets.kitti_lidar import *
    from .._base_.models.point_rcnn import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle import *

model.data_preprocessor.point_cloud_range = point_cloud_range
# Far points are kept first: the other ones are drawn among those nearer than 40 m.
sample = dict(type=PointSample, num_points=16384, sample_range=40.0)
train_steps, test_steps = train_dataloader.dataset.dataset.pipeline, val_dataloader.dataset.pipeline
train_steps.update(sample=sample, shuffle=train_steps.pop('shuffle'), pack=train_steps.pop('pack'))
test_steps.update(sample=sample, pack=test_steps.pop('pack'))
views = tta_pipeline.views.transforms
views.update(sample=[sample], pack=views.pop('pack'))
train_dataloader.batch_size = 2
test_dataloader = val_dataloader
del sample, train_steps, test_steps, views

optim_wrapper.optimizer.betas = (0.95, 0.85)
auto_scale_lr.base_batch_size = 16
