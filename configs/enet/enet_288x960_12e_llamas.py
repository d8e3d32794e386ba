"""ENet on LLAMAS, whole images at 960 x 288 as in ENet-SAD-Simple, in the recipe of pytorch-auto-drive for CULane.

Lanes are scored from row 300 of 717 down: 21 rows, 20 pixels apart.
"""

from mmengine.config import read_base

class_names = ['l1', 'l0', 'r0', 'r1']
input_hw = [288, 960]
scale_x, scale_y, rotate_deg = [1, 1], [1, 1], 3.0
batch_size = 20
lr = 0.5

with read_base():
    from .._base_.datasets.llamas import *
    from .._base_.models.enet import *
    from .._base_.runtime import *
    from .._base_.schedules.sgd_poly import *

model.decoder.num_rows = 21
