"""SGD of pytorch-auto-drive for lanes: 12 epochs in batches of 20, warm-up for 200 iterations, poly decay of power 0.9.

The rate is ENet's 0.5 on CULane; it has 0.4 for ENet on TuSimple and 0.2 for ERFNet. There trained with mixed
precision: `tools/train.py --amp`.
"""

from mmengine.optim import LinearLR, OptimWrapper, PolyLR
from mmengine.runner import TestLoop, ValLoop
from torch.optim import SGD

from perception3d.engine.reproducible import ResumableEpochTrainLoop

lr = 0.5
max_epochs = 12
val_interval = 4
batch_size = 20
warmup_iters = 200
nesterov = False

train_cfg = dict(type=ResumableEpochTrainLoop, max_epochs=max_epochs, val_interval=val_interval)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=SGD, lr=lr, momentum=0.9, nesterov=nesterov, weight_decay=1e-4),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1 / warmup_iters, by_epoch=False, begin=0, end=warmup_iters),
    dict(type=PolyLR, power=0.9, eta_min=0, begin=0, end=max_epochs, by_epoch=True, convert_to_iter_based=True),
]

# enable=True scales the rate to the batch that a run really has.
auto_scale_lr = dict(enable=False, base_batch_size=batch_size)

# Where several processes train, one batch norm over the images of all.
sync_bn = 'torch'
