from mmengine.dataset import DefaultSampler
from plugin_parts import BlobDetector, CentreError, NoisyBlobs

from perception3d.engine.reproducible import ResumableEpochTrainLoop, ResumableSampler

model = dict(type=BlobDetector)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(type=NoisyBlobs),
)
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False), dataset=dict(type=NoisyBlobs)
)
test_evaluator = dict(type=CentreError)
test_cfg = dict()
train_cfg = dict(type=ResumableEpochTrainLoop, max_epochs=4)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1), clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=24, by_epoch=False)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=2))
custom_hooks = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.5)]
randomness = dict(seed=3)
