"""Averaged weights (EMA) on top of any schedule: read this base next to it.

The average reaches back over about 1 / `averaging_momentum` iterations: 0.005 suits trainings of a few thousand, 0.0002
those of a hundred thousand. Batch norm statistics are averaged too. Validation, checkpoints and tests use the average;
see docs/training.md. Where another base has hooks of its own, write all of them: `custom_hooks = [..., averaging]`.
"""

from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage

averaging_momentum = 0.005
averaging = dict(type=EMAHook, ema_type=ExponentialMovingAverage, momentum=averaging_momentum, update_buffers=True)
custom_hooks = [averaging]
