"""PointDistiller: PointPillars teaches the 4x smaller one on the features of its pillars.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.point_distiller import PointDistiller

with read_base():
    from .._base_.models.point_pillars_secfpn import model as teacher
    from ..point_pillars.point_pillars_secfpn_c4_160e_kitti import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    links=dict(
        local=dict(
            student='voxel_encoder',
            teacher='voxel_encoder',
            loss=dict(
                type=PointDistiller,
                student_channels=32,
                teacher_channels=64,
                channels=32,
                num_nodes=6000,
                num_neighbors=128,
                importance='points',
            ),
        )
    ),
)
del teacher
