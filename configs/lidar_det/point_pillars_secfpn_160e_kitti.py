"""PointPillars on KITTI, three classes, as mmdet3d trains it: 8 x 6 samples, 160 epochs."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.kitti_lidar import *
    from .._base_.models.point_pillars_secfpn import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle import *

# PointPillars of three classes does not move single objects.
del train_dataloader.dataset.dataset.pipeline[4]

# PointPillars' own schedule: 80 epochs over the data repeated twice.
lr, max_epochs, rise_epochs = 0.001, 80, 32
optim_wrapper.optimizer.lr = lr
optim_wrapper.clip_grad.max_norm = 35
train_cfg.update(max_epochs=max_epochs, val_interval=2)
param_scheduler[0].update(T_max=rise_epochs, end=rise_epochs, eta_min=lr * 10)
param_scheduler[1].update(T_max=max_epochs - rise_epochs, begin=rise_epochs, end=max_epochs, eta_min=lr * 1e-4)
param_scheduler[2].update(T_max=rise_epochs, end=rise_epochs)
param_scheduler[3].update(T_max=max_epochs - rise_epochs, begin=rise_epochs, end=max_epochs)
