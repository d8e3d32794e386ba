"""PointDistiller: SECOND teaches the 4x smaller one on both levels of its 2D backbone.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.second_levels import links
    from .._base_.models.second_secfpn import model as teacher
    from ..second.second_secfpn_c4_80e_kitti import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    links=links,
)
del links, teacher
