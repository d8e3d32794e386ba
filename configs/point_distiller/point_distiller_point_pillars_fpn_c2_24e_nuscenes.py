"""PointDistiller: PointPillars of nuScenes teaches the 2x smaller one on the finest level of its pyramid.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

student_channels = 182

with read_base():
    from .._base_.distill.pyramid_features import links
    from .._base_.models.point_pillars_fpn import model as teacher
    from ..point_pillars.point_pillars_fpn_c2_24e_nuscenes import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    teacher_mode='predict',
    links=links,
)
del links, teacher
