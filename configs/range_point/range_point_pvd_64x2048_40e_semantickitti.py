"""From Cylinder3D 1.0x to RangePointNet on SemanticKITTI: PVD between points, in the supervoxels of the teacher.

The weights of the links are shares of the student's own loss (ours): `link_match=None` makes them the plain factors
recalled from the paper, which are one or two per cent of it. Give the teacher's weights with
`--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

link_match = 1.0

with read_base():
    from .._base_.distill.points_alone import *
    from ..cylinder3d.cylinder3d_w100_480x360x32_40e_semantickitti import model as teacher
    from .range_point_64x2048_40e_semantickitti import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    links=links,
)
del teacher
