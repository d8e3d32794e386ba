"""The 16x smaller PointPillars made to overfit three real frames.

A check of the whole path on real data: labels, calibration, frames, anchors, result files, metric.
"""

from mmengine.config import read_base
from mmengine.dataset import RepeatDataset
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from torch.optim import AdamW

data_root = 'data/sample_kitti'

with read_base():
    from .point_pillars_secfpn_c16_160e_kitti import *

num_iters = 160

# Three frames again and again, as the test sees them.
frames = train_dataloader.dataset.dataset
for name in ('paste', 'mirror', 'rotate', 'shuffle'):
    del frames.pipeline[name]
train_dataloader.dataset = dict(type=RepeatDataset, dataset=frames, times=num_iters)
train_dataloader.update(batch_size=3, num_workers=1)
val_dataloader.update(num_workers=1)
test_dataloader = val_dataloader
del frames, name

# The published momentum of 0.01 needs a thousand steps before the averages are those of the data.
model.voxel_encoder.norm_cfg = dict(type='BN1d', eps=1e-3, momentum=0.1)
model.backbone.norm_cfg = dict(type='BN', eps=1e-3, momentum=0.1)
model.neck.norm_cfg = dict(type='BN', eps=1e-3, momentum=0.1)

train_cfg.update(max_epochs=1, val_interval=1)
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=3e-3, weight_decay=0.0),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-2, by_epoch=False, begin=0, end=20),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=20, end=num_iters, eta_min=1e-5),
]
default_hooks.logger.interval = 10
