"""Averaged weights (EMA) on top of any schedule: read this base next to it.

The average reaches back over about 1 / `averaging_momentum` iterations: 0.005 suits trainings of a few thousand, 0.0002
those of a hundred thousand. It begins with a larger momentum, so that the first weights are forgotten: with a constant
one a training of 600 iterations would end with an average that is still 5 % the random weights of its start. Batch norm
statistics are averaged too. Validation, checkpoints and tests use the average; see docs/training.md. Where another base
has hooks of its own, write all of them: `custom_hooks = [..., averaging]`.
"""

from mmdet.models.layers import ExpMomentumEMA
from mmengine.hooks import EMAHook

averaging_momentum = 0.005
averaging = dict(
    type=EMAHook,
    ema_type=ExpMomentumEMA,
    momentum=averaging_momentum,
    # Momentum of iteration i: averaging_momentum + (1 - averaging_momentum) * exp(-(1 + i) / gamma).
    gamma=0.5 / averaging_momentum,
    update_buffers=True,
)
custom_hooks = [averaging]
