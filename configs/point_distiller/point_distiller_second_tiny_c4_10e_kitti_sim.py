"""PointDistiller between the tiny SECOND and the one of half its width, in the built-in world.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.point_distiller import PointDistiller

with read_base():
    from ..second.second_tiny_10e_kitti_sim import model as teacher
    from ..second.second_tiny_c4_10e_kitti_sim import *

# A link begins at the student's own loss times `match * weight` and fades in the last fifth of the training.
timing = dict(match=1.0, ramp=0.05, decay_start=0.8, decay_to=0.1)
local = dict(type=PointDistiller, channels=16, num_nodes=256, num_neighbors=32, importance='feature')
model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    inherit=False,
    links=dict(
        level0=dict(
            student='backbone[0]',
            teacher='backbone[0]',
            loss=dict(**local, student_channels=16, teacher_channels=32),
            weight=0.15,
            **timing,
        ),
        level1=dict(
            student='backbone[1]',
            teacher='backbone[1]',
            loss=dict(**local, student_channels=32, teacher_channels=64),
            weight=0.15,
            **timing,
        ),
    ),
)
del teacher
