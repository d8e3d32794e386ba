"""IntRA-KD: ERFNet learns from a ResNet-101.

The plain config `configs/erfnet/erfnet_208x976_12e_culane.py` tests what it has learned.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.lane_intra_kd import *
    from ..erfnet.erfnet_208x976_12e_culane import *
    from ..lane_resnet.lane_resnet_r101_208x976_12e_culane import model as teacher

model = dict(
    type=Distiller, student=copy.deepcopy(model), teacher=copy.deepcopy(teacher), teacher_checkpoint=None, links=links
)
del teacher
