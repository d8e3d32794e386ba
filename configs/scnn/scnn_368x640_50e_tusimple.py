"""SCNN on TuSimple for 50 epochs, in batches of 12 at a rate of 0.01 (ours, that of CULane); lanes by components."""

from mmengine.config import read_base

from perception3d.models.lane.tusimple_decoder import TuSimpleDecoder

class_names = ['left-3', 'left-2', 'left-1', 'right-1', 'right-2', 'right-3']
mean, std = [91.75, 93.15, 93.38], [65.61, 67.91, 70.28]
lr, max_epochs, val_interval, batch_size = 0.01, 50, 10, 12
input_hw = [368, 640]

with read_base():
    from .._base_.datasets.tusimple import *
    from .._base_.models.scnn import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_poly import *

model.decoder = dict(type=TuSimpleDecoder)
