"""PVD from Cylinder3D 1.0x to 0.5x on SemanticKITTI (arXiv 2206.02099), with the teacher's most important channels.

The weights of the links are shares of the student's own loss (ours): `link_match=None` makes them the plain factors
recalled from the paper, which are one or two per cent of it. Whether the paper's student inherits weights is not known:
`model.inherit=False` begins with its own. Every link has its switch, `model.links.<name>.weight=0`. Give the teacher's
weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

link_match = 1.0

with read_base():
    from .._base_.distill.cylinder_widths import *
    from .._base_.distill.point_voxel import *
    from ..cylinder3d.cylinder3d_w050_480x360x32_40e_semantickitti import *
    from ..cylinder3d.cylinder3d_w100_480x360x32_40e_semantickitti import model as teacher

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    inherit=dict(widths=cylinder_widths),
    links=links,
)
del teacher
