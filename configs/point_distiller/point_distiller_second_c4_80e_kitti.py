"""PointDistiller: SECOND teaches the 4x smaller one on both levels of its 2D backbone.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.point_distiller import PointDistiller

with read_base():
    from .._base_.models.second_secfpn import model as teacher
    from ..second.second_secfpn_c4_80e_kitti import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    links=dict(
        level0=dict(
            student='backbone[0]',
            teacher='backbone[0]',
            loss=dict(
                type=PointDistiller,
                student_channels=64,
                teacher_channels=128,
                channels=32,
                num_nodes=256,
                num_neighbors=128,
                importance='feature',
            ),
        ),
        level1=dict(
            student='backbone[1]',
            teacher='backbone[1]',
            loss=dict(
                type=PointDistiller,
                student_channels=128,
                teacher_channels=256,
                channels=32,
                num_nodes=256,
                num_neighbors=128,
                importance='feature',
            ),
        ),
    ),
)
del teacher
