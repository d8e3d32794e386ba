"""Compared with PointDistiller on PointPillars c4: attention-guided and non-local distillation (Zhang and Ma 2021)."""

from mmengine.config import read_base

from perception3d.distill.losses.attention_guided import AttentionGuidedKD

with read_base():
    from .point_distiller_point_pillars_c4_160e_kitti import *

model.links = dict(
    attention=dict(
        student='neck[0]',
        teacher='neck[0]',
        loss=dict(type=AttentionGuidedKD, student_channels=192, teacher_channels=384),
    )
)
