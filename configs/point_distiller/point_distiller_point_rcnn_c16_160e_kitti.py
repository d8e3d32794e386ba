"""PointDistiller: PointRCNN teaches the 16x smaller one on the features of its points.

Give the teacher's weights with `--cfg-options model.teacher_checkpoint=...`.
"""

import copy

from mmengine.config import read_base

from perception3d.distill.distiller import Distiller
from perception3d.distill.losses.point_distiller import PointDistiller

with read_base():
    from .._base_.models.point_rcnn import model as teacher
    from ..point_rcnn.point_rcnn_c16_160e_kitti import *

model = dict(
    type=Distiller,
    student=copy.deepcopy(model),
    teacher=copy.deepcopy(teacher),
    teacher_checkpoint=None,
    teacher_mode='predict',
    links=dict(
        local=dict(
            student='neck[fp_features]',
            teacher='neck[fp_features]',
            loss=dict(
                type=PointDistiller,
                student_channels=32,
                teacher_channels=128,
                channels=32,
                num_nodes=6000,
                num_neighbors=128,
                importance='feature',
                pool='max',
            ),
        )
    ),
)
del teacher
