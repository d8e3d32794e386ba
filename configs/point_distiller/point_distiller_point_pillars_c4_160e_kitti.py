"""PointDistiller: PointPillars teaches the 4x smaller one on the features of its pillars.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.pillar_features import links
    from .._base_.models.point_pillars_secfpn import model as teacher
    from ..point_pillars.point_pillars_secfpn_c4_160e_kitti import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    links=links,
)
del links, teacher
