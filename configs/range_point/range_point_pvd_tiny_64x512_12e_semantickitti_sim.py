"""From the tiny Cylinder3D to the tiny RangePointNet: PVD between points, in the supervoxels of the teacher.

Every link has its switch, `model.links.<name>.weight=0`. Give the teacher's weights with
`--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.points_alone import *
    from ..cylinder3d.cylinder3d_tiny_120x90x16_12e_semantickitti_sim import model as teacher
    from .range_point_tiny_64x512_12e_semantickitti_sim import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    links=links,
)
del teacher
