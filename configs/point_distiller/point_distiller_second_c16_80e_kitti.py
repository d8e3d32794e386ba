"""PointDistiller: SECOND teaches the 16x smaller one on both levels of its 2D backbone.

Both branches go to 32 channels, as in the released code, also for this student.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

student_channels = (32, 64)

with read_base():
    from .._base_.distill.second_levels import links
    from .._base_.models.second_secfpn import model as teacher
    from ..second.second_secfpn_c16_80e_kitti import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    links=links,
)
del links, teacher
