"""CenterPoint on voxels of 0.1 m on nuScenes, as mmdet3d trains it: 8 x 4 samples, 20 epochs, balanced classes.

Objects are pasted from a database, which `tools/create_data.py nuscenes --database` writes, in all but 5 epochs.
"""

from mmengine.config import read_base

lr, max_epochs = 1e-4, 20
val_interval = max_epochs
last_epochs = max_epochs // 4

with read_base():
    from .._base_.datasets.nuscenes_lidar_pasted import *
    from .._base_.models.center_point_voxel import *
    from .._base_.runtime import *
    from .._base_.schedules.one_cycle import *

optim_wrapper.optimizer.betas = (0.95, 0.999)
optim_wrapper.clip_grad.max_norm = 35
auto_scale_lr.base_batch_size = 32
