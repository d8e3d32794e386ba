"""PVD from the tiny Cylinder3D to the one of half its width, in the built-in world in SemanticKITTI's format.

The weights of the links are shares of the student's own loss: as plain factors they would be one or two per cent of it.
Every part has its switch: a link with `model.links.<name>.weight=0`, inherited weights with `model.inherit=False`. Give
the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

# Share of the points of the training scans: trucks are not rare in the built-in world, motorcycles and signs are.
class_shares = {
    'car': 0.1221, 'bicycle': 0.0014, 'motorcycle': 0.0025, 'truck': 0.0159, 'other-vehicle': 0.0265,
    'person': 0.0043, 'bicyclist': 0.0032, 'motorcyclist': 0.0028, 'road': 0.3777, 'parking': 0.0537,
    'sidewalk': 0.1112, 'other-ground': 0.0124, 'building': 0.1406, 'fence': 0.0289, 'vegetation': 0.0360,
    'trunk': 0.0044, 'terrain': 0.0482, 'pole': 0.0069, 'traffic-sign': 0.0014,
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
