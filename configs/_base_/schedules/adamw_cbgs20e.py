"""The published schedule of Fast-BEV: AdamW, 20 epochs, warm-up, poly decay to zero; its rate is for a batch of 32."""

from mmengine.optim import LinearLR, PolyLR
from mmengine.runner import TestLoop, ValLoop
from torch.optim import AdamW

from perception3d.engine.amp import MixedPrecisionOptimWrapper
from perception3d.engine.reproducible import ResumableEpochTrainLoop

max_epochs = 20
val_interval = 5
train_cfg = dict(type=ResumableEpochTrainLoop, max_epochs=max_epochs, val_interval=val_interval)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)

optim_wrapper = dict(
    type=MixedPrecisionOptimWrapper,
    # The released runs used float16 with a dynamic loss scale; bfloat16 needs no scale and also runs on a CPU.
    dtype='bfloat16',
    optimizer=dict(type=AdamW, lr=4e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1, decay_mult=1.0)}),
    clip_grad=dict(max_norm=35, norm_type=2),
)

warmup_iters = 1000
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type=PolyLR, power=1.0, eta_min=0, begin=0, end=max_epochs, by_epoch=True, convert_to_iter_based=True),
]

# The published batch is 32 processes of one sample; enable=True scales the rate to the batch that a run really has.
auto_scale_lr = dict(enable=False, base_batch_size=32)

# Where several processes train, one batch norm over the samples of all: each of them holds only one.
sync_bn = 'torch'
