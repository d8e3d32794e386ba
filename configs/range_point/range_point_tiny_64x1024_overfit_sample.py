"""A small RangePointNet made to overfit one real scan: a check of the whole path, with a class for every point."""

from mmengine.config import read_base
from mmengine.dataset import RepeatDataset
from mmengine.optim import CosineAnnealingLR, LinearLR

data_root = 'data/sample_semantickitti'
image_shape = [64, 1024]
point_channels, stem_channels, fused_channels = 32, 16, 48
widths = [32, 64, 128]
lr, max_epochs, val_interval = 0.01, 1, 1

with read_base():
    from .._base_.datasets.semantickitti import *
    from .._base_.models.range_point import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *

num_iters = 300

# The scan again and again, as the test sees it.
scans = train_dataloader.dataset
for name in ('mirror', 'rotate'):
    del scans.pipeline[name]
train_dataloader.dataset = dict(type=RepeatDataset, dataset=scans, times=num_iters)
train_dataloader.update(batch_size=1, num_workers=1)
val_dataloader.update(num_workers=1)
val_dataloader.dataset.ann_file = train_ann_file
test_dataloader = val_dataloader
del scans, name

optim_wrapper.optimizer.weight_decay = 0.0
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-2, by_epoch=False, begin=0, end=20),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=20, end=num_iters, eta_min=1e-5),
]
default_hooks.logger.interval = 10
