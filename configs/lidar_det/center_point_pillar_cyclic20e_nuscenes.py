"""CenterPoint on pillars of 0.2 m on nuScenes, as mmdet3d trains it: 8 x 4 samples, 20 epochs, balanced classes.

Objects are pasted from a database, which `tools/create_data.py nuscenes --database` writes, in all but 5 epochs.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.nuscenes_lidar_pasted import *
    from .._base_.models.center_point_pillar import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle import *

lr, max_epochs = 1e-4, 20
rise_epochs = max_epochs * 2 // 5 or 0.4 * max_epochs
optim_wrapper.optimizer.update(lr=lr, betas=(0.95, 0.999))
optim_wrapper.clip_grad.max_norm = 35
train_cfg.update(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler[0].update(T_max=rise_epochs, end=rise_epochs, eta_min=lr * 10)
param_scheduler[1].update(T_max=max_epochs - rise_epochs, begin=rise_epochs, end=max_epochs, eta_min=lr * 1e-4)
param_scheduler[2].update(T_max=rise_epochs, end=rise_epochs)
param_scheduler[3].update(T_max=max_epochs - rise_epochs, begin=rise_epochs, end=max_epochs)
auto_scale_lr.base_batch_size = 32
custom_hooks[0].last_epochs = max_epochs // 4
