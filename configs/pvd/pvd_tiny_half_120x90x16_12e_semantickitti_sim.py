"""PVD from the tiny Cylinder3D to the one of half its width, in the built-in world in SemanticKITTI's format.

The weights of the links are shares of the student's own loss: as plain factors they would be one or two per cent of it.
Every part has its switch: a link with `model.links.<name>.weight=0`, inherited weights with `model.inherit=False`. Give
the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

# Share of all points, of 40 scans: fences are rare in the built-in world, other ground is not.
class_shares = {
    'car': 0.1475, 'bicycle': 0.0008, 'motorcycle': 0.00003, 'truck': 0.0116, 'other-vehicle': 0.0031,
    'person': 0.0034, 'bicyclist': 0.002, 'motorcyclist': 0.0058, 'road': 0.3102, 'parking': 0.0498,
    'sidewalk': 0.1003, 'other-ground': 0.06, 'building': 0.2368, 'fence': 0.0008, 'vegetation': 0.0117,
    'trunk': 0.0068, 'terrain': 0.0367, 'pole': 0.007, 'traffic-sign': 0.001,
}  # fmt: skip

link_match = 1.0
point_hidden = [32, 64]

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
