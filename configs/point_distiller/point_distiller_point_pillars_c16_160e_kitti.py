"""PointDistiller: PointPillars teaches the 16x smaller one on the features of its pillars.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

student_channels = 16
distill_channels = 16
distill_nodes = 12000

with read_base():
    from .._base_.distill.pillar_features import links
    from .._base_.models.point_pillars_secfpn import model as teacher
    from ..point_pillars.point_pillars_secfpn_c16_160e_kitti import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    links=links,
)
del links, teacher
