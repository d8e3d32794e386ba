"""PointDistiller: PointRCNN teaches the 8x smaller one on the features of its points.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller

with read_base():
    from .._base_.distill.point_features import links
    from .._base_.models.point_rcnn import model as teacher
    from ..point_rcnn.point_rcnn_c8_160e_kitti import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    teacher_mode='predict',
    links=links,
)
del links, teacher
