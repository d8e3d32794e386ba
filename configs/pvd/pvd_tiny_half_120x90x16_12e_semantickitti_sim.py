"""PVD from the tiny Cylinder3D to the one of half its width, in the built-in world in SemanticKITTI's format.

Every part has its switch: a link with `model.links.<name>.weight=0`, inherited weights with `model.inherit=False`. Give
the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.cylinder_widths import *
    from .._base_.distill.point_voxel import *
    from ..cylinder3d.cylinder3d_tiny_120x90x16_12e_semantickitti_sim import model as teacher
    from ..cylinder3d.cylinder3d_tiny_half_120x90x16_12e_semantickitti_sim import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    inherit=dict(widths=cylinder_widths),
    links=links,
)
del teacher
