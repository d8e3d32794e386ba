"""ENet, on small images of the built-in world in TuSimple's format: rows from 160 down, where lanes are scored."""

from mmengine.config import read_base

from perception3d.models.lane.tusimple_decoder import TuSimpleDecoder

class_names = ['left-3', 'left-2', 'left-1', 'right-1', 'right-2', 'right-3']
crop_top_px, input_hw = 160, [112, 256]
lr, max_epochs, val_interval = 3e-3, 10, 10

with read_base():
    from .._base_.datasets.tusimple_sim import *
    from .._base_.models.enet import *
    from .._base_.runtime import *
    from .._base_.schedules.adamw_cosine import *
    from .._base_.schedules.averaged import *

model.decoder = dict(type=TuSimpleDecoder)
