"""From the tiny Cylinder3D to the tiny RangePointNet: PVD between points, in the supervoxels of the teacher.

A point learns what the teacher predicts for its voxel, from which Cylinder3D classifies points, with 0.3 of the
student's own loss. The affinities of points are off: on one seed they took 2.4 mIoU of that gain. Switch them on with
`model.links.point_affinity.weight=0.15`. Give the teacher's weights with
`--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from ..pvd.pvd_tiny_half_120x90x16_12e_semantickitti_sim import model as pair
    from .range_point_tiny_64x512_12e_semantickitti_sim import *

links = dict(
    point_output=copy.deepcopy(pair.links.point_output),
    point_affinity=copy.deepcopy(pair.links.point_affinity),
)
links['point_output'].update(teacher='voxel_logits', weight=0.3)
links['point_output'].loss.teacher_of = 'voxel'
links['point_affinity'].weight = 0.0

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(pair.teacher),
    teacher_checkpoint=None,
    links=links,
)
del pair
