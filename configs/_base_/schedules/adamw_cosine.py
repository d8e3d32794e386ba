"""AdamW for networks from random weights: warm-up for an epoch, then a cosine to zero, gradients clipped.

Segmentation of point clouds and lanes in small images use it. The released Cylinder3D code keeps the rate of Adam
(0.001, batches of 2) constant, and its users report scores that swing late in a training. The rate, the decay and the
clipping are ours.
"""

from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import AdamW

from perception3d.engine.reproducible import ResumableEpochTrainLoop

lr = 0.001
max_epochs = 40
val_interval = 5
# Part of an epoch where the training is short.
warmup_epochs = min(1, max_epochs / 10)

train_cfg = dict(type=ResumableEpochTrainLoop, max_epochs=max_epochs, val_interval=val_interval)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=lr, weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=True, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type=CosineAnnealingLR,
        eta_min=0,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]

# The rate is for 2 processes of 4 scans.
auto_scale_lr = dict(enable=False, base_batch_size=8)

# Where several processes train, one batch norm over the scans of all.
sync_bn = 'torch'
