"""From the tiny Cylinder3D to the tiny RangePointNet: PVD between points, in the supervoxels of the teacher.

Teacher and links are those of the tiny pair of Cylinder3D. Every link has its switch, `model.links.<name>.weight=0`.
Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from ..pvd.pvd_tiny_half_120x90x16_12e_semantickitti_sim import model as pair
    from .range_point_tiny_64x512_12e_semantickitti_sim import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(pair.teacher),
    teacher_checkpoint=None,
    links=dict(
        point_output=copy.deepcopy(pair.links.point_output),
        point_affinity=copy.deepcopy(pair.links.point_affinity),
    ),
)
del pair
