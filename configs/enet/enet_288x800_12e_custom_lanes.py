"""ENet on images of your own with JSON lines of polylines (docs/lanes.md). Copy this file and set its values.

`class_names` are the slots of the info file, `crop_top_px` the rows without road; a lane has a point in every
`row_step_px` rows of the stored image, from the lowest one up.
"""

from mmengine.config import read_base

class_names = ['left-2', 'left-1', 'right-1', 'right-2']
crop_top_px, input_hw = 0, [288, 800]
batch_size = 8
# For batches of 8; pytorch-auto-drive has 0.5 for 20.
lr = 0.2

with read_base():
    from .._base_.datasets.custom_lanes import *
    from .._base_.models.enet import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_poly import *

model.decoder.update(row_step_px=20, num_rows=18)
