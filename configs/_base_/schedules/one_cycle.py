"""One cycle of AdamW, as SECOND has it on KITTI: the rate rises tenfold over 40 % and falls to 1e-4 of its start.

The first beta goes 0.95, 0.85, 0.95. The same lines in mmdet3d 1.x end at 1.0, where Adam forgets nothing: they pass
the ratios of 0.x (0.85 / 0.95, then 1) as `eta_min`, which is absolute (open-mmlab/mmdetection3d #3115).
"""

from mmengine.optim import CosineAnnealingLR, CosineAnnealingMomentum, OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import AdamW

from perception3d.engine.reproducible import ResumableEpochTrainLoop

# SECOND's; PointPillars' is `one_cycle_pillars`. Data sets are repeated twice an epoch.
lr = 0.0018
max_epochs = 40
val_interval = 1
# Two fifths of the training, in whole epochs where it has three or more.
rise_epochs = max_epochs * 2 // 5 or 0.4 * max_epochs

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=lr, betas=(0.95, 0.99), weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(
        type=kind,
        T_max=end - begin,
        eta_min=goal,
        begin=begin,
        end=end,
        by_epoch=True,
        convert_to_iter_based=True,
    )
    for kind, begin, end, goal in (
        (CosineAnnealingLR, 0, rise_epochs, lr * 10),
        (CosineAnnealingLR, rise_epochs, max_epochs, lr * 1e-4),
        (CosineAnnealingMomentum, 0, rise_epochs, 0.85),
        (CosineAnnealingMomentum, rise_epochs, max_epochs, 0.95),
    )
]
train_cfg = dict(type=ResumableEpochTrainLoop, max_epochs=max_epochs, val_interval=val_interval)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
# Rates are for 8 processes of 6 samples.
auto_scale_lr = dict(enable=False, base_batch_size=48)
