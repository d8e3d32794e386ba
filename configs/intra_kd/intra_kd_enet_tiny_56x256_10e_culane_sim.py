"""IntRA-KD: a small ENet learns from a ResNet-101 of a quarter of the width, in the built-in world.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.lane_intra_kd import *
    from ..enet.enet_tiny_56x256_10e_culane_sim import *
    from ..lane_resnet.lane_resnet_r101_tiny_56x256_10e_culane_sim import model as teacher

model = dict(
    type=Distiller, student=copy.deepcopy(model), teacher=copy.deepcopy(teacher), teacher_checkpoint=None, links=links
)
del teacher
