"""A small input made to overfit the four real images of TuSimple, rows from 240 down: a check of the whole path.

Classes, masks, losses, lanes by components, metric. Dropout is off.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

from perception3d.models.lane.tusimple_decoder import TuSimpleDecoder

class_names = ['left-3', 'left-2', 'left-1', 'right-1', 'right-2', 'right-3']
crop_top_px, input_hw = 240, [96, 256]
dropout = 0.0
lr, max_epochs, val_interval = 0.01, 1, 1

with read_base():
    from .._base_.datasets.tusimple_sample import *
    from .._base_.models.enet import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *

model.decoder = dict(type=TuSimpleDecoder)
optim_wrapper.optimizer.weight_decay = 0.0
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-2, by_epoch=False, begin=0, end=num_iters // 5),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=num_iters // 5, end=num_iters, eta_min=1e-5),
]
default_hooks.logger.interval = 10
