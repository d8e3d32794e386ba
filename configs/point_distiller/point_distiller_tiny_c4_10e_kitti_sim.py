"""PointDistiller between the tiny PointPillars and the one of half its width, in the built-in world.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.point_distiller import PointDistiller

with read_base():
    from ..point_pillars.point_pillars_tiny_10e_kitti_sim import model as teacher
    from ..point_pillars.point_pillars_tiny_c4_10e_kitti_sim import *

# A link begins at the student's own loss times `match * weight` and fades in the last fifth of the training.
timing = dict(match=1.0, ramp=0.05, decay_start=0.8, decay_to=0.1)
model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    inherit=False,
    links=dict(
        local=dict(
            student='voxel_encoder',
            teacher='voxel_encoder',
            loss=dict(
                type=PointDistiller,
                student_channels=16,
                teacher_channels=32,
                channels=16,
                num_nodes=1000,
                num_neighbors=32,
                importance='points',
            ),
            weight=0.3,
            **timing,
        ),
    ),
)
del teacher
