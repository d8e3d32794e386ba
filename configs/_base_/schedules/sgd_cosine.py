"""SGD of SPVNAS: Nesterov, rate 0.24 for 8 processes of 2 scans, 15 epochs, 125 iterations of warm-up, cosine to 0."""

from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import SGD

from perception3d.engine.reproducible import ResumableEpochTrainLoop

lr = 0.24
max_epochs = 15
val_interval = 1
# 1000 over the number of processes.
warmup_iters = 125

train_cfg = dict(type=ResumableEpochTrainLoop, max_epochs=max_epochs, val_interval=val_interval)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=SGD, lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-4),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1 / warmup_iters, by_epoch=False, begin=0, end=warmup_iters),
    dict(type=CosineAnnealingLR, eta_min=0, begin=0, end=max_epochs, by_epoch=True, convert_to_iter_based=True),
]

# enable=True scales the rate to the batch that a run really has.
auto_scale_lr = dict(enable=False, base_batch_size=16)
