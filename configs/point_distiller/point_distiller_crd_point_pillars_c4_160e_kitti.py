"""Compared with PointDistiller on PointPillars c4: contrastive representation distillation of pillars."""

from mmengine.config import read_base

from perception3d.distill.losses.contrastive import ContrastiveKD

with read_base():
    from .point_distiller_point_pillars_c4_160e_kitti import *

model.links = dict(
    contrast=dict(
        student='voxel_encoder',
        teacher='voxel_encoder',
        loss=dict(type=ContrastiveKD, student_channels=32, teacher_channels=64),
    )
)
