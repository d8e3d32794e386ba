"""ENet on TuSimple, in the recipe of pytorch-auto-drive; lanes by components."""

from mmengine.config import read_base

from perception3d.models.lane.tusimple_decoder import TuSimpleDecoder

class_names = ['left-3', 'left-2', 'left-1', 'right-1', 'right-2', 'right-3']
scale_x, scale_y, rotate_deg = [1, 1], [1, 1], 3.0
batch_size = 20
lr, max_epochs, val_interval = 0.4, 50, 10
input_hw = [368, 640]

with read_base():
    from .._base_.datasets.tusimple import *
    from .._base_.models.enet import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_poly import *

model.decoder = dict(type=TuSimpleDecoder)
